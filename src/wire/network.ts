import type {
  NetworkDenial,
  NetworkInfo,
  NetworkOptions,
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
}

/** Network options on the wire. */
export function networkToJson({ outbound, allowNet, denyNet }: NetworkOptions): NetworkJson {
  return { outbound: compact({ mode: outbound ?? 'enabled', allow_net: allowNet, deny_net: denyNet }) };
}

/** The inverse of {@link networkToJson}; undefined when it says nothing. */
export function networkFromJson({ outbound }: NetworkJson): NetworkOptions | undefined {
  const { mode, allow_net: allowNet, deny_net: denyNet } = outbound ?? {};
  if (mode === undefined && allowNet === undefined && denyNet === undefined) return undefined;
  return compact({ outbound: mode, allowNet, denyNet });
}

/** The network of a box of which a server told; without lists where it has none. */
export function networkOf(json: JsonObject): Required<NetworkOptions> {
  const network = asObject(json['network'] ?? {}, 'network');
  const outbound = asObject(network['outbound'] ?? {}, 'network.outbound');
  const list = (field: string): string[] => (outbound[field] === undefined ? [] : texts(outbound, field));
  return {
    outbound: outbound['mode'] === 'disabled' ? 'disabled' : 'enabled',
    allowNet: list('allow_net'),
    denyNet: list('deny_net'),
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
