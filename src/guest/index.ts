/** The room `guest`: what the engine does inside a machine goes through an {@link AgentClient}. */
import type { CryoboxError } from '../errors.js';
import { AgentConnection, type AgentHello, type ConnectOptions } from './connection.js';
import { type DialledConnection, type DialOptions, dial } from './dial.js';
import { AgentExecutions } from './executions.js';
import { AgentFiles } from './files.js';
import { AgentSystem } from './system.js';

/** The agent of one machine. */
export class AgentClient {
  readonly executions: AgentExecutions;
  readonly files: AgentFiles;
  readonly system: AgentSystem;
  readonly #connection: AgentConnection;

  private constructor(connection: AgentConnection) {
    this.#connection = connection;
    this.executions = new AgentExecutions(connection);
    this.files = new AgentFiles(connection);
    this.system = new AgentSystem(connection);
  }

  /**
   * Connects to the agent behind a unix socket; an earlier connection of another process is superseded, executions go
   * on and can be attached to.
   * @throws CryoboxError `machine_failed`, `timeout`, `cancelled`, `agent_mismatch`.
   */
  static async connect(options: ConnectOptions): Promise<AgentClient> {
    return new AgentClient(await AgentConnection.open(options));
  }

  /** What the agent said about itself when the connection began. */
  get hello(): AgentHello {
    return this.#connection.hello;
  }

  /** Whether the connection has ended: true before anybody who waited for an answer is told. */
  get hasEnded(): boolean {
    return this.#connection.hasEnded;
  }

  /** Resolves, with the reason, when the connection has ended. Never rejects. */
  get closed(): Promise<CryoboxError> {
    return this.#connection.closed;
  }

  /** Opens a TCP connection to a port inside the guest. @throws CryoboxError `network_unavailable`. */
  async dial(options: DialOptions): Promise<DialledConnection> {
    return dial(this.#connection, options);
  }

  /**
   * Keeps everything for the agent back until the returned function is called: for a moment in which the machine stands
   * still and its memory must not change. @throws CryoboxError `timeout`, `machine_failed`.
   */
  async hold(timeoutMs: number): Promise<() => void> {
    return this.#connection.hold({ timeoutMs });
  }

  /** What everybody who waits is told when the connection ends, by whichever side; undefined: what ended it. */
  endsWith(reason: CryoboxError | undefined): void {
    this.#connection.endsWith(reason);
  }

  /** Ends the connection; the machine and its executions go on. */
  close(): void {
    this.#connection.close();
  }
}

export {
  Execution as GuestExecution,
  type ExecutionInfo as GuestExecutionInfo,
  type KeptOutput,
} from './executions.js';
export type { FileInfo as GuestFileInfo, PackStream, WatchEvent as GuestWatchEvent } from './files.js';
export { buildInitramfs } from './initramfs.js';
export { findKernel as readKernel } from './kernel.js';
export { findOnDemandModules, onDemandVersion } from './on-demand.js';
export type { GuestWritable } from './streams.js';
export type { GuestMetrics, NetworkConfiguration } from './system.js';
