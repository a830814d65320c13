import { z } from 'zod';
import type {
  BoxNetwork,
  CallOptions,
  NetworkInfo,
  NetworkOptions,
  NetworkTraffic,
  PreviewAccess,
} from '../../api/index.js';
import { abortable, throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import { type NetworkConfig, normalNetwork, policyOf } from '../../network/index.js';
import type { BoxRow } from '../../store/index.js';
import { applyOrEnd, cardOf } from '../machines/gateways.js';
import type { LiveBox } from '../machines/live.js';
import { exclusively } from '../machines/locked.js';
import { configOf, requireRow, updateBox } from '../record/rows.js';
import { checkNetwork } from '../record/validate.js';
import type { EngineContext } from './context.js';
import { checkAccess } from './previews.js';

const denial = z.object({
  seq: z.number(),
  at: z.number().transform((ms) => new Date(ms)),
  reason: z.string(),
  protocol: z.string(),
  name: z.string().nullable(),
  address: z.string().nullable(),
  port: z.number(),
  count: z.number(),
});

/** What a gateway says of itself (gateway/src/denials.rs). */
const said = z.object({
  sent: z.number(),
  received: z.number(),
  opened: z.number(),
  open: z.number(),
  failed: z.number(),
  refused: z.record(z.string(), z.number()),
  denials: z.array(denial),
});

/** The network of a box of the engine. */
export class EngineNetwork implements BoxNetwork {
  readonly #ctx: EngineContext;
  readonly #id: string;

  constructor(ctx: EngineContext, id: string) {
    this.#ctx = ctx;
    this.#id = id;
  }

  async info({ signal }: CallOptions = {}): Promise<NetworkInfo> {
    throwIfCancelled(signal, 'the look at a network');
    const { intercept: _, ...network } = configOf(await requireRow(this.#ctx.db, this.#id)).network;
    const traffic = await abortable(trafficOf(this.#ctx.live.get(this.#id)), signal);
    const inbound = await this.#ctx.previews.inboundOf(this.#id);
    return { ...network, inbound, traffic };
  }

  async update({ signal, ...options }: NetworkOptions & CallOptions): Promise<NetworkInfo> {
    checkNetwork(options);
    const update = (row: BoxRow): Promise<void> => change(this.#ctx, row, normalNetwork(options));
    await exclusively(this.#ctx, this.#id, 'network.update', update, signal);
    return await this.info({ signal });
  }

  async setInbound(access: PreviewAccess, { signal }: CallOptions = {}): Promise<NetworkInfo> {
    checkAccess(access);
    const set = (): Promise<void> => this.#ctx.previews.setInbound(this.#id, access);
    await exclusively(this.#ctx, this.#id, 'network.update', set, signal);
    return await this.info({ signal });
  }
}

async function change(ctx: EngineContext, row: BoxRow, asked: NetworkConfig): Promise<void> {
  const config = configOf(row);
  const network = { ...asked, intercept: config.network.intercept ?? [] };
  if (JSON.stringify(config.network) === JSON.stringify(network)) return;
  const live = ctx.live.get(row.id);
  refuseWhatCannotChange(ctx, row, live, network);
  // Settings that cannot be understood are told before anything changes.
  await policyOf(ctx.paths.network, network);
  // First what the box is to have: a gateway that ends meanwhile is started with it.
  const changed = JSON.stringify({ ...config, network });
  await updateBox(ctx, row.id, { config: changed });
  if (live?.gateway) await applyOrEnd(ctx, live.machine, live.gateway, { ...row, config: changed });
}

/** Throws `invalid_state` where the machine of a box, or its memory, cannot be given another network. */
export function refuseWhatCannotChange(
  ctx: EngineContext,
  row: BoxRow,
  live: LiveBox | undefined,
  network: NetworkConfig,
): void {
  const card = cardOf(ctx, network);
  const was = cardOf(ctx, configOf(row).network);
  if (live && !live.gateway) {
    throw new CryoboxError(
      'invalid_state',
      'the network of a box that was started without lists cannot change',
      {
        hint: 'Stop the box, change its network and start it; or make it with `allowNet: ["*"]`, which can be changed.',
        details: { box: row.id, status: row.status },
      },
    );
  }
  // The guest's card is down, and what is in its memory does not bring it up.
  if (row.status === 'paused' && was === 'closed' && card !== 'closed') {
    throw new CryoboxError(
      'invalid_state',
      'the network of a box that was paused without one cannot be opened',
      {
        hint: 'Stop the box, change its network and start it.',
        details: { box: row.id, status: row.status },
      },
    );
  }
}

async function trafficOf(live: LiveBox | undefined): Promise<NetworkTraffic | null> {
  if (!live?.gateway) return null;
  const { sent, received, opened, open, failed, refused, denials } = said.parse(await live.gateway.info());
  return {
    bytesSent: sent,
    bytesReceived: received,
    connectionsOpened: opened,
    connectionsOpen: open,
    connectionsFailed: failed,
    refused,
    denials,
  };
}
