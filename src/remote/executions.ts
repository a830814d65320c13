import type {
  CallOptions,
  Execution,
  ExecutionInfo,
  ExecutionOutput,
  Executions,
  OutputOptions,
  TerminalSize,
} from '../api/index.js';
import { isCryoboxError } from '../errors.js';
import { executionFromJson } from '../wire/execution.js';
import { asObjects } from '../wire/json.js';
import { outputFromLines } from '../wire/log.js';
import { ndjson } from '../wire/media.js';
import { RemoteExecution, signalExecution } from './execution.js';
import { jsonLines } from './lines.js';
import { segment, type Transport } from './transport.js';

/** What `task` gives, or null where the server says that there is no such thing. */
export async function orNull<T>(task: Promise<T>): Promise<T | null> {
  try {
    return await task;
  } catch (error) {
    if (isCryoboxError(error) && error.status === 404) return null;
    throw error;
  }
}

/** Executions of a box behind a server. */
export class RemoteExecutions implements Executions {
  readonly #transport: Transport;
  readonly #boxPath: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#boxPath = boxPath;
  }

  async list({ signal }: CallOptions = {}): Promise<ExecutionInfo[]> {
    const path = `${this.#boxPath}/executions`;
    return asObjects(await this.#transport.json({ method: 'GET', path, signal })).map(executionFromJson);
  }

  async get(id: string, { signal }: CallOptions = {}): Promise<ExecutionInfo | null> {
    const found = await orNull(this.#transport.json({ method: 'GET', path: this.#path(id), signal }));
    return found === null ? null : executionFromJson(found);
  }

  attach(id: string, options: CallOptions & { readonly stdin?: boolean } = {}): Promise<Execution> {
    const start = { kind: 'attach', executionId: id, stdin: options.stdin ?? false } as const;
    return RemoteExecution.open(this.#transport, this.#boxPath, start, options.signal);
  }

  async output(id: string, { stdoutAt, stderrAt, signal }: OutputOptions = {}): Promise<ExecutionOutput> {
    const query = { encoding: 'base64', stdout_at: stdoutAt, stderr_at: stderrAt };
    const path = `${this.#path(id)}/logs`;
    const bytes = await this.#transport.bytes({ method: 'GET', path, query, accept: ndjson, signal });
    return await outputFromLines(jsonLines(bytes));
  }

  async signal(id: string, signal: number | string, options: CallOptions = {}): Promise<void> {
    await signalExecution(this.#transport, this.#boxPath, id, signal, options);
  }

  async kill(id: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: this.#path(id), signal });
  }

  async resize(id: string, size: TerminalSize, { signal }: CallOptions = {}): Promise<void> {
    const json = { cols: size.cols, rows: size.rows };
    await this.#transport.empty({ method: 'POST', path: `${this.#path(id)}/resize`, json, signal });
  }

  #path(id: string): string {
    return `${this.#boxPath}/executions/${segment(id)}`;
  }
}
