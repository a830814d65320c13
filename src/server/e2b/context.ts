import { createHmac } from 'node:crypto';
import type { Box, BoxInfo, Runtime } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError } from '../../errors.js';
import type { ErrorWriter } from '../http/errors.js';
import { factsOf } from './facts.js';
import { boxIdOf, sandboxIdOf } from './names.js';
import { OpenStreams } from './open-streams.js';
import { Processes } from './processes.js';
import { Watchers } from './watchers.js';

/** Seconds a sandbox lives at least when traffic has resumed it. */
const minWakeSeconds = 300;

/** What the owner of a server says of this dialect. */
export interface E2bOptions {
  /** Secret from which the tokens of sandboxes are made; the same after a restart. At least 32 bytes. */
  readonly seed: Uint8Array;
  /** Whose box that is; undefined when there is none. */
  readonly tenantOf: (boxId: string) => Promise<string | undefined>;
  /** Ids of the boxes that run now, whosever they are. */
  readonly runningBoxes: () => readonly string[];
  /** The name that leads to this server, with a port where clients need one: they ask sandboxes below it. @default `localhost` and the port for who asks by it, else a name that leads nowhere */
  readonly domain?: string;
  /** Images and templates of the home that stand in for names clients ask for; asked for at every creation. @default none */
  readonly standIns?: () => Promise<Readonly<Record<string, string>>>;
}

/** What the routes of this dialect share. */
export interface E2bContext extends E2bOptions {
  readonly runtimeFor: (tenant: string) => Runtime;
  readonly logger: Logger;
  /** How errors are told. */
  readonly errors: ErrorWriter;
  readonly processes: Processes;
  readonly streams: OpenStreams;
  readonly watchers: Watchers;
}

/** A sandbox that clients may use now. */
export interface Sandbox {
  readonly id: string;
  readonly tenant: string;
  readonly box: Box;
  readonly info: BoxInfo;
}

/** What clients are told of a sandbox that does not answer; they look for these words. */
function notRunning(sandboxId: string): CryoboxError {
  return new CryoboxError('stopped', 'The sandbox was not found', { details: { sandboxId } });
}

/** The token that opens the inside of a sandbox. */
export function tokenOf({ seed }: Pick<E2bOptions, 'seed'>, boxId: string): string {
  return createHmac('sha256', seed).update(boxId).digest('hex');
}

/** The token that opens the private ports of a sandbox. */
export function trafficTokenOf({ seed }: Pick<E2bOptions, 'seed'>, boxId: string): string {
  return createHmac('sha256', seed).update(`traffic ${boxId}`).digest('hex');
}

/** The sandbox of that id, whoever has it. Throws `stopped` when clients cannot use it: it does not run, and nothing wakes it. */
export async function requireSandbox(ctx: E2bContext, sandboxId: string): Promise<Sandbox> {
  const boxId = boxIdOf(sandboxId);
  const tenant = boxId === undefined ? undefined : await ctx.tenantOf(boxId);
  if (boxId === undefined || tenant === undefined) throw notRunning(sandboxId);
  const box = await ctx.runtimeFor(tenant).get(boxId);
  if (!box) throw notRunning(sandboxId);
  const info = await box.info();
  const wakes = info.status === 'paused' && factsOf(info).autoResume;
  if (info.status !== 'running' && !wakes) throw notRunning(sandboxId);
  return { id: sandboxIdOf(boxId), tenant, box, info };
}

/** Resumes a sandbox that traffic wakes; its time begins anew. */
export async function wake({ box, info }: Sandbox): Promise<void> {
  if (info.status === 'running') return;
  const { resumed } = await box.resume();
  if (resumed && info.lifetime > 0) await box.setLifetime(minWakeSeconds, { extendOnly: true });
}

/** What the routes share, over the runtimes of a server. */
export function createContext(
  options: E2bOptions,
  { runtimeFor, logger, errors }: Pick<E2bContext, 'runtimeFor' | 'logger' | 'errors'>,
): E2bContext {
  return {
    ...options,
    runtimeFor,
    logger,
    errors,
    streams: new OpenStreams({ runtimeFor, logger }),
    processes: new Processes(),
    watchers: new Watchers(),
  };
}
