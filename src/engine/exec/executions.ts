import type {
  CallOptions,
  ExecOptions,
  ExecResult,
  Execution,
  ExecutionInfo,
  ExecutionStatus,
  Executions,
  StartExecOptions,
  TerminalSize,
} from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { GuestExecution, GuestExecutionInfo } from '../../guest/index.js';
import { configOf, requireRow } from '../boxes/rows.js';
import { useBox } from '../boxes/use.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { collect } from './collect.js';
import { EngineExecution } from './execution.js';
import { checkTerminal, execRequest } from './request.js';

/** Starts a command in a box and gives its streams; the box counts as used until the command ends. */
export async function startExecution(
  ctx: EngineContext,
  boxId: string,
  argv: readonly string[],
  options: StartExecOptions,
): Promise<EngineExecution> {
  const row = await requireRow(ctx.db, boxId);
  const request = execRequest(argv, configOf(row), options);
  return await useBox(ctx, boxId, 'exec', async (live) => {
    const id = newId('exe');
    try {
      const started = await live.agent.executions.start(
        { id, ...request, stdin: options.stdin === true },
        { signal: options.signal },
      );
      live.commands.started(id, argv, started.exit);
      ctx.counters.add(row.tenant, 'commandsExecutedTotal');
      ctx.counters.addToBox(boxId, { commands: 1 });
      return attached(ctx, boxId, started);
    } catch (error) {
      ctx.counters.add(row.tenant, 'execErrorsTotal');
      ctx.counters.addToBox(boxId, { execErrors: 1 });
      throw error;
    }
  });
}

/** Runs a command and waits for its end and all its output. */
export async function execAndWait(
  ctx: EngineContext,
  boxId: string,
  argv: readonly string[],
  options: ExecOptions,
): Promise<ExecResult> {
  const { stdin, ...rest } = options;
  const execution = await startExecution(ctx, boxId, argv, { ...rest, stdin: stdin !== undefined });
  return await collect(execution, stdin, options.signal);
}

function attached(ctx: EngineContext, boxId: string, guest: GuestExecution): EngineExecution {
  const done = ctx.timers.use(boxId);
  guest.exit.then(done, done);
  return new EngineExecution(boxId, guest);
}

/** The executions of one box of the engine, by id. */
export class EngineExecutions implements Executions {
  readonly #ctx: EngineContext;
  readonly #boxId: string;

  constructor(ctx: EngineContext, boxId: string) {
    this.#ctx = ctx;
    this.#boxId = boxId;
  }

  async list(): Promise<ExecutionInfo[]> {
    await requireRow(this.#ctx.db, this.#boxId);
    const live = this.#ctx.live.get(this.#boxId);
    if (!live) return [];
    const all = await live.agent.executions.list();
    return all.map((info) => infoOf(live, info));
  }

  async get(id: string): Promise<ExecutionInfo | null> {
    await requireRow(this.#ctx.db, this.#boxId);
    const live = this.#ctx.live.get(this.#boxId);
    if (!live) return null;
    try {
      return infoOf(live, await live.agent.executions.get(id));
    } catch (error) {
      if (isCryoboxError(error, 'not_found')) return null;
      throw error;
    }
  }

  async attach(id: string, options: CallOptions & { readonly stdin?: boolean } = {}): Promise<Execution> {
    const live = this.#running(id);
    return attached(
      this.#ctx,
      this.#boxId,
      await live.agent.executions.attach(id, {}, { signal: options.signal }),
    );
  }

  async signal(id: string, signal: number | string, options: CallOptions = {}): Promise<void> {
    await this.#running(id).agent.executions.signal(id, signal, { signal: options.signal });
  }

  async kill(id: string, options: CallOptions = {}): Promise<void> {
    await this.#running(id).agent.executions.kill(id, { signal: options.signal });
  }

  async resize(id: string, size: TerminalSize, options: CallOptions = {}): Promise<void> {
    checkTerminal(size);
    await this.#running(id).agent.executions.resize(id, size, { signal: options.signal });
  }

  /** A box that does not run has no executions; asking for one does not start it. */
  #running(id: string): LiveBox {
    const live = this.#ctx.live.get(this.#boxId);
    if (live) return live;
    throw new CryoboxError('not_found', `the box does not run, so it has no execution ${JSON.stringify(id)}`);
  }
}

function infoOf(live: LiveBox, info: GuestExecutionInfo): ExecutionInfo {
  return {
    id: info.exec,
    boxId: live.boxId,
    status: statusOf(info),
    command: live.commands.get(info.exec) ?? [info.command],
    exitCode: info.code,
    signal: info.signal,
    startedAt: new Date(info.startedAtUnixMs),
    durationMs: info.durationMs,
    attached: info.attached,
    tty: info.tty,
  };
}

function statusOf(info: GuestExecutionInfo): ExecutionStatus {
  if (info.state === 'running') return 'running';
  if (info.timedOut) return 'timed_out';
  return info.signal === null ? 'completed' : 'killed';
}
