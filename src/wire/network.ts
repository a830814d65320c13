import type {
  NetworkDenial,
  NetworkInfo,
  NetworkOptions,
  NetworkRateLimit,
  NetworkSettings,
  NetworkTraffic,
  PreviewAccess,
} from '../api/index.js';
import {
  asObject,
  asObjects,
  compact,
  date,
  type JsonObject,
  number,
  numberMap,
  text,
  textOrNull,
  texts,
} from './json.js';

/** `network` of a request: BoxLite's names, and `deny_net`. */
export interface NetworkJson {
  readonly outbound?: {
    readonly mode?: 'enabled' | 'disabled';
    readonly allow_net?: readonly string[];
    readonly deny_net?: readonly string[];
  };
  /** Bytes a second. */
  readonly rate_limit?: NetworkRatesJson;
}

/** Bytes a second each way; what is absent is not limited. */
export interface NetworkRatesJson {
  readonly send_bps?: number;
  readonly receive_bps?: number;
}

/** Network options on the wire. */
export function networkToJson({ outbound, allowNet, denyNet, rateLimit }: NetworkOptions): NetworkJson {
  return compact({
    outbound: compact({ mode: outbound ?? 'enabled', allow_net: allowNet, deny_net: denyNet }),
    rate_limit:
      rateLimit &&
      compact({ send_bps: rateLimit.sendBytesPerSecond, receive_bps: rateLimit.receiveBytesPerSecond }),
  });
}

function ratesFromJson(json: NetworkRatesJson | undefined): NetworkRateLimit | undefined {
  return json && compact({ sendBytesPerSecond: json.send_bps, receiveBytesPerSecond: json.receive_bps });
}

/** `advanced.network_rate_limit` of BoxLite, in kilobits a second, where 0 limits nothing. */
export function ratesOfKilobits(json: {
  readonly tx_kbps?: number;
  readonly rx_kbps?: number;
}): NetworkRatesJson {
  const bytes = (kilobits: number | undefined): number | undefined =>
    kilobits === undefined || kilobits === 0 ? undefined : kilobits * 125;
  return compact({ send_bps: bytes(json.tx_kbps), receive_bps: bytes(json.rx_kbps) });
}

/** The inverse of {@link networkToJson}; undefined when it says nothing. */
export function networkFromJson({ outbound, rate_limit: rates }: NetworkJson): NetworkOptions | undefined {
  const { mode, allow_net: allowNet, deny_net: denyNet } = outbound ?? {};
  const said = compact({ outbound: mode, allowNet, denyNet, rateLimit: ratesFromJson(rates) });
  return Object.keys(said).length === 0 ? undefined : said;
}

/** The network of a box of which a server told; without lists where it has none. */
export function networkOf(json: JsonObject): NetworkSettings {
  const network = asObject(json['network'] ?? {}, 'network');
  const outbound = asObject(network['outbound'] ?? {}, 'network.outbound');
  const rates =
    network['rate_limit'] === undefined ? undefined : asObject(network['rate_limit'], 'rate_limit');
  const rate = (field: string): number | undefined =>
    rates?.[field] === undefined ? undefined : number(rates, field);
  const list = (field: string): string[] => (outbound[field] === undefined ? [] : texts(outbound, field));
  return {
    outbound: outbound['mode'] === 'disabled' ? 'disabled' : 'enabled',
    allowNet: list('allow_net'),
    denyNet: list('deny_net'),
    ...(rates && {
      rateLimit: compact({
        sendBytesPerSecond: rate('send_bps'),
        receiveBytesPerSecond: rate('receive_bps'),
      }),
    }),
  };
}

/** Answer of `GET` and `PUT {p}/boxes/{id}/network`. */
export function networkInfoToJson({ traffic, inbound, ...network }: NetworkInfo): JsonObject {
  return {
    ...networkToJson(network),
    inbound: inboundToJson(inbound),
    traffic: traffic && {
      bytes_sent: traffic.bytesSent,
      bytes_received: traffic.bytesReceived,
      connections_opened: traffic.connectionsOpened,
      connections_open: traffic.connectionsOpen,
      connections_failed: traffic.connectionsFailed,
      refused: traffic.refused,
      denials: traffic.denials.map(({ at, ...denial }) => ({ ...denial, at: at.toISOString() })),
    },
  };
}

/** The inverse of {@link networkInfoToJson}. */
export function networkInfoFromJson(value: unknown): NetworkInfo {
  const json = asObject(value, 'network');
  const traffic = json['traffic'] ?? null;
  const network = networkOf({ network: json });
  const inbound = inboundOf(json['inbound']);
  return { ...network, inbound, traffic: traffic === null ? null : trafficOf(asObject(traffic, 'traffic')) };
}

/** Body of `PUT {p}/boxes/{id}/network/inbound`, and `inbound` of a network: BoxLite's words. */
export function inboundToJson(access: PreviewAccess): { readonly mode: 'enabled' | 'disabled' } {
  // Another word stays as it is, so that the server refuses it.
  const modes: Partial<Record<PreviewAccess, 'enabled' | 'disabled'>> = {
    public: 'enabled',
    private: 'disabled',
  };
  return { mode: modes[access] ?? (access as never) };
}

function inboundOf(json: unknown): PreviewAccess {
  const isPublic = typeof json === 'object' && json !== null && 'mode' in json && json.mode === 'enabled';
  return isPublic ? 'public' : 'private';
}

function trafficOf(json: JsonObject): NetworkTraffic {
  return {
    bytesSent: number(json, 'bytes_sent', 0),
    bytesReceived: number(json, 'bytes_received', 0),
    connectionsOpened: number(json, 'connections_opened', 0),
    connectionsOpen: number(json, 'connections_open', 0),
    connectionsFailed: number(json, 'connections_failed', 0),
    refused: numberMap(json, 'refused'),
    denials: asObjects(json['denials'] ?? [], 'denials').map(denialOf),
  };
}

function denialOf(json: JsonObject): NetworkDenial {
  return {
    seq: number(json, 'seq', 0),
    at: date(json, 'at'),
    reason: text(json, 'reason'),
    protocol: text(json, 'protocol'),
    name: textOrNull(json, 'name'),
    address: textOrNull(json, 'address'),
    port: number(json, 'port', 0),
    count: number(json, 'count', 1),
  };
}
