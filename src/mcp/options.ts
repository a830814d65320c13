import { boxLimits, type Runtime } from '../api/index.js';
import { type Logger, silentLogger } from '../base/log.js';
import { CryoboxError } from '../errors.js';

/** What a tool needs: a scope of the REST API's keys. */
export type ToolScope = 'box:read' | 'box:write' | 'box:exec' | 'box:delete';

/** What the tools of a conversation may do. */
export interface McpOptions {
  /** Asked for when the first tool needs it: a client waits a few seconds for its connection, an engine may start for longer. */
  readonly runtime: () => Promise<Runtime>;
  /** Image of a box that is made without one. @default 'debian-python' */
  readonly image?: string | undefined;
  /** Whether boxes may open connections. @default 'enabled' */
  readonly network?: 'enabled' | 'disabled' | undefined;
  /** Memory of new boxes in MiB. @default that of a box made without it */
  readonly memoryMiB?: number | undefined;
  /** Seconds without use after which a box is removed. @default 86400 */
  readonly lifetimeSeconds?: number | undefined;
  /** Name or id of the box of the conversation. @default one that is made when it is first needed */
  readonly box?: string | undefined;
  /** Offers only tools that change nothing. @default false */
  readonly readOnly?: boolean;
  /** Offers only tools of these scopes. @default all */
  readonly scopes?: readonly ToolScope[];
  /** Whether ports of a box can be listened for on this host: only where the client is a program of it. @default false */
  readonly publishPorts?: boolean;
  /** What errors are told as, for clients who have no business with the paths of the host. @default as they are */
  readonly shown?: <T>(json: T) => T;
  /** @default silent */
  readonly logger?: Logger;
}

/** {@link McpOptions} with their defaults. */
export interface McpSettings extends Required<Omit<McpOptions, 'box' | 'memoryMiB'>> {
  readonly image: string;
  readonly network: 'enabled' | 'disabled';
  readonly lifetimeSeconds: number;
  readonly box: string | undefined;
  readonly memoryMiB: number | undefined;
}

const dayInSeconds = 86_400;

/** Fills in what was not given. @throws invalid_argument for a lifetime that no box can have. */
export function withDefaults(options: McpOptions): McpSettings {
  const { lifetimeSeconds = dayInSeconds } = options;
  const max = boxLimits.timerSeconds;
  if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < minLifetimeSeconds || lifetimeSeconds > max) {
    throw new CryoboxError(
      'invalid_argument',
      `lifetime: expected ${minLifetimeSeconds} to ${max} seconds, got ${lifetimeSeconds}`,
      { details: { field: 'lifetime' } },
    );
  }
  return {
    runtime: options.runtime,
    image: options.image ?? 'debian-python',
    network: options.network ?? 'enabled',
    memoryMiB: options.memoryMiB,
    lifetimeSeconds,
    box: options.box,
    readOnly: options.readOnly ?? false,
    scopes: options.scopes ?? ['box:read', 'box:write', 'box:exec', 'box:delete'],
    publishPorts: options.publishPorts ?? false,
    shown: options.shown ?? ((json) => json),
    logger: options.logger ?? silentLogger,
  };
}

/** Bounds of what one conversation holds and gets. */
export const mcpLimits = {
  /** Of each stream of a command, in bytes: a model reads it all, and pays for it. */
  outputBytes: 32 * 1024,
  /** Of one file that is read, in bytes. */
  fileBytes: 64 * 1024,
  /** Bytes of a file that is written: it comes in one message. */
  writtenBytes: 1024 * 1024,
  /** Entries of a listing, and lines of a search. */
  entries: 500,
  /** Commands in the background whose output is kept. */
  backgroundCommands: 16,
  /** Children of one fork. */
  forks: 16,
  /** Ports that are listened for. */
  ports: 16,
  /** Connections to one of them at once. */
  portConnections: 64,
  /** Seconds without use after which the box of a conversation is paused, so that it keeps no memory between calls. */
  pauseSeconds: 30,
  /** A command that was given no time, in milliseconds. */
  commandMs: 120_000,
  /** The longest it may be given. */
  maxCommandMs: 3_600_000,
} as const;

/** A box is paused before it is removed, so it is kept longer than that. */
const minLifetimeSeconds = mcpLimits.pauseSeconds + 1;
