import { randomBytes } from 'node:crypto';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { checkedAnswer, guestMetrics, mountStages, networkMetrics } from './answers.js';
import type { AgentConnection, Answer, RequestOptions } from './connection.js';

/** Entropy given to the guest's kernel with every renewal: twice the state of its generator. */
const entropyBytes = 64;
/** The guest's clock, as it answers, may be behind by what the answer took; more means it was not set. */
const clockToleranceMs = 30_000;

/** What makes a restored machine another one than its siblings. Clock and randomness are always renewed. */
interface Identity {
  /** Host name, also in /etc/hostname. */
  readonly hostname?: string;
  /** 32 hex digits for /etc/machine-id. */
  readonly machineId?: string;
  /** Hardware address of the network card, such as `52:54:00:12:34:56`. */
  readonly mac?: string;
  /** Remove the SSH host keys and make new ones where ssh-keygen is there. */
  readonly sshHostKeys?: boolean;
  /** Begin a new run: for a machine that goes on from a state with a mounted root and is another box. */
  readonly newRun?: boolean;
}

/** How the guest reaches the network. */
export type NetworkConfiguration =
  | { readonly disabled: true }
  | {
      /** Default `eth0`. */
      readonly interface?: string;
      readonly address: string;
      /** Bits of the network's part of the address. */
      readonly prefix: number;
      readonly gateway?: string;
      /** Name servers for /etc/resolv.conf. */
      readonly dns?: readonly string[];
    };

/** The disk that becomes the root. */
interface RootMount {
  /** Default `/dev/vdb`. */
  readonly device?: string;
  /** Grow the file system to this size; default it stays. */
  readonly growToBytes?: number;
  readonly readOnly?: boolean;
  /** Content of /etc/hosts; default it stays as the image has it. */
  readonly hosts?: string;
  readonly resolvConf?: string;
}

/** A volume and where it goes. */
interface VolumePlace {
  /** Serial number of its disk. */
  readonly serial: string;
  /** Absolute; made when it is not there. */
  readonly path: string;
  readonly readOnly: boolean;
}

/** What to do after a restore, before the box takes an execution. */
export interface ConfigureOptions {
  readonly identity: Identity;
  readonly root?: RootMount;
  readonly network?: NetworkConfiguration;
  /** Destroy TCP connections that lead out of the machine: their other ends know nothing of the restore. */
  readonly resetConnections?: boolean;
}

/** What the guest confirmed. */
export interface Configured {
  /** The guest's clock when it answered. */
  readonly timeUnixNs: bigint;
  /** The nonce of the run, when a root is mounted. */
  readonly run: string | null;
  /** How long the parts of mounting took, in the guest's milliseconds. */
  readonly stagesMs: Readonly<Record<string, number>>;
}

/** Figures of a guest. Times are since its boot, sizes in bytes. */
export interface GuestMetrics {
  readonly uptimeMs: number;
  readonly timeUnixNs: string;
  readonly cpu: Readonly<Record<'cpus' | 'userMs' | 'systemMs' | 'idleMs' | 'waitMs' | 'stolenMs', number>>;
  readonly memory: Readonly<
    Record<
      'totalBytes' | 'freeBytes' | 'availableBytes' | 'cachedBytes' | 'swapTotalBytes' | 'swapFreeBytes',
      number
    >
  >;
  /** Over 1, 5 and 15 minutes. */
  readonly load: readonly number[];
  readonly network: readonly (Readonly<
    Record<'receivedBytes' | 'receivedPackets' | 'sentBytes' | 'sentPackets', number>
  > & { readonly interface: string })[];
  readonly disk: Readonly<
    Record<'totalBytes' | 'freeBytes' | 'availableBytes' | 'files' | 'freeFiles', number>
  >;
  /** Processes the agent started that have not ended. */
  readonly processes: number;
  /** The agent itself. */
  readonly agent: Readonly<Record<'cpuTimeUs' | 'ringBytes' | 'sources' | 'executions', number>>;
}

/** The guest as a whole. */
export class AgentSystem {
  readonly #connection: AgentConnection;

  constructor(connection: AgentConnection) {
    this.#connection = connection;
  }

  /**
   * Renews identity, mounts the root and sets up the network, in this order and in one write: round trips are what
   * costs time here.
   * @throws CryoboxError `identity_unconfirmed` when clock, randomness or names could not be renewed: the machine
   * must not be used then. Other failures as the agent reports them.
   */
  async configure(options: ConfigureOptions, request: RequestOptions = {}): Promise<Configured> {
    const { identity, root, network } = options;
    const sentAtMs = Date.now();
    const renewed = this.#call(
      'identity.renew',
      { ...identity, timeUnixNs: nowUnixNs() },
      request,
      entropyBytes,
    );
    const mounted = root && this.#call('root.mount', { ...root }, request);
    const connected = network && this.#call('net.configure', { ...network }, request);
    const reset = options.resetConnections ? this.#call('net.resetConnections', {}, request) : undefined;
    const [first, ...others] = await Promise.allSettled([renewed, mounted, connected, reset]);
    if (first.status === 'rejected') throw unconfirmed(first.reason);
    for (const other of others) if (other.status === 'rejected') throw other.reason;
    const timeUnixNs = confirmedTime(first.value, sentAtMs);
    const answer = await mounted;
    const run = answer?.run ?? first.value.run;
    return {
      timeUnixNs,
      run: typeof run === 'string' ? run : null,
      stagesMs: checkedAnswer(mountStages, answer?.stagesMs ?? {}, 'root.mount'),
    };
  }

  /**
   * Has the guest do what the start of a box does, on a disk that is thrown away: identity, mount and network; then
   * executions can be started, in `/root`, where it is mounted. Ends with {@link leaveRehearsal}.
   */
  async rehearse(options: Required<Omit<ConfigureOptions, 'resetConnections'>>): Promise<void> {
    const { identity, root, network } = options;
    await Promise.all([
      this.#call('identity.renew', { ...identity, timeUnixNs: nowUnixNs() }, {}, entropyBytes),
      this.#call('root.rehearse', { ...root }),
      this.#call('net.configure', { ...network }),
    ]);
  }

  /** Unmounts the disk of a rehearsal, and makes certain that the kernel has it no more. */
  async leaveRehearsal(): Promise<void> {
    await this.#call('root.leave', {});
  }

  /** To be called when the disk's slot is empty again. Throws `storage_error` when something of the disk can still be read. */
  async forgetRehearsal(): Promise<void> {
    await this.#call('root.forget', {});
  }

  /**
   * Mounts a volume. Throws `invalid_state` when it is to be read-only and was not unmounted in order, `not_found` when
   * the machine has no such disk, `storage_error` when it holds no sound file system.
   */
  async mountVolume(mount: VolumePlace, request: RequestOptions = {}): Promise<void> {
    await this.#call('volume.mount', { ...mount }, request);
  }

  /** Round trip; the answer is what was sent. */
  async ping(echo: string, options?: RequestOptions): Promise<string> {
    return String((await this.#call('sys.ping', { echo }, options)).echo);
  }

  /** Sets the wall clock to the host's. */
  async setClock(options?: RequestOptions): Promise<void> {
    await this.#call('sys.clock', { timeUnixNs: nowUnixNs() }, options);
  }

  /** Gives the kernel's random number generator fresh bytes and makes it use them. */
  async reseed(options?: RequestOptions): Promise<void> {
    await this.#call('sys.reseed', {}, options, entropyBytes);
  }

  /**
   * Freezes the root file system: what is on the disk is whole until {@link thaw}. The agent thaws by itself
   * `maxFrozenMs` (default 60,000) after it had to be frozen.
   * @throws CryoboxError `timeout` when that is not done after `timeoutMs` (default 30,000); it is thawed then.
   */
  async freeze(
    options: { timeoutMs?: number; maxFrozenMs?: number; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { timeoutMs = 30_000, maxFrozenMs, signal } = options;
    await this.#call('sys.freeze', { timeoutMs, maxFrozenMs }, { timeoutMs, signal });
  }

  /** Ends a freeze. @throws CryoboxError `invalid_state` when the file system is not frozen. */
  async thaw(options?: RequestOptions): Promise<void> {
    await this.#call('sys.thaw', {}, options);
  }

  /** Writes everything to the disks. */
  async sync(options?: RequestOptions): Promise<void> {
    await this.#call('sys.sync', {}, options);
  }

  /** Gives up the page cache, so that less memory has to be kept for a pause. */
  async dropCaches(options?: RequestOptions): Promise<void> {
    await this.#call('sys.dropCaches', {}, options);
  }

  /** Figures of the guest. */
  async metrics(options?: RequestOptions): Promise<GuestMetrics> {
    const answer = await this.#call('sys.metrics', {}, options);
    const { network } = checkedAnswer(guestMetrics, answer, 'sys.metrics');
    for (const card of network) checkedAnswer(networkMetrics, card, 'sys.metrics');
    return answer as unknown as GuestMetrics;
  }

  /** Destroys TCP connections that lead out of the machine; how many. @throws CryoboxError `unsupported`. */
  async resetConnections(options?: RequestOptions): Promise<number> {
    return Number((await this.#call('net.resetConnections', {}, options)).reset);
  }

  /**
   * Ends all processes (SIGTERM, after `timeoutMs`, default 5,000, SIGKILL), writes the disks and turns the machine
   * off. Resolves when the agent has begun; the connection ends when it is done.
   */
  async powerOff(options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<void> {
    const { timeoutMs = 5000, signal } = options;
    await this.#call('sys.poweroff', { timeoutMs }, { signal });
  }

  #call(
    op: string,
    args: Record<string, unknown>,
    options: RequestOptions = {},
    freshBytes = 0,
  ): Promise<Answer> {
    const payload = freshBytes === 0 ? undefined : randomBytes(freshBytes);
    return this.#connection.request(op, args, { ...options, payload });
  }
}

/** A string: the number is beyond what JSON's readers keep exactly. */
function nowUnixNs(): string {
  return String(BigInt(Date.now()) * 1_000_000n);
}

function confirmedTime(answer: Answer, sentAtMs: number): bigint {
  const text = typeof answer.timeUnixNs === 'string' ? answer.timeUnixNs : '';
  const guest = /^[0-9]{1,20}$/.test(text) ? BigInt(text) : 0n;
  const guestMs = Number(guest / 1_000_000n);
  if (guestMs < sentAtMs || guestMs > Date.now() + clockToleranceMs) {
    throw new CryoboxError(
      'identity_unconfirmed',
      `the guest's clock shows ${guestMs} ms since 1970, expected at least ${sentAtMs}`,
    );
  }
  return guest;
}

function unconfirmed(cause: unknown): CryoboxError {
  if (isCryoboxError(cause, 'cancelled') || isCryoboxError(cause, 'machine_failed')) return cause;
  return new CryoboxError(
    'identity_unconfirmed',
    `the guest did not renew its identity: ${messageOf(cause)}`,
    {
      cause,
    },
  );
}
