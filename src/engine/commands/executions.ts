import type {
  CallOptions,
  ExecResult,
  Execution,
  ExecutionInfo,
  ExecutionOutput,
  ExecutionStatus,
  Executions,
  OutputOptions,
  StartExecOptions,
  TerminalSize,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { runWithStdin } from '../../base/feed.js';
import { newId } from '../../base/ids.js';
import { outputLost } from '../../base/lost-output.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { GuestExecutionInfo, KeptOutput } from '../../guest/index.js';
import type { ByteRunOptions } from '../../surface/exec.js';
import type { MachinesContext } from '../machines/context.js';
import type { LiveBox } from '../machines/live.js';
import { checkTerminal, execRequest } from '../record/request.js';
import { configOf, requireRow } from '../record/rows.js';
import { collect } from './collect.js';
import { EngineExecution } from './execution.js';
import { useBox } from './use.js';

/** Starts a command in a box and gives its streams; the box counts as used until the command ends. Throws `resource_exhausted`. */
export async function startExecution(
  ctx: MachinesContext,
  boxId: string,
  argv: readonly string[],
  options: StartExecOptions,
): Promise<EngineExecution> {
  const row = await requireRow(ctx.db, boxId);
  const request = execRequest(argv, configOf(row), options);
  const { signal } = options;
  // Before the box is brought up for a command that may not run.
  const place = await ctx.limits.execute(row.tenant);
  const leave = (): void => place[Symbol.dispose]();
  const start = async (live: LiveBox): Promise<EngineExecution> => {
    const id = newId('exe');
    try {
      const started = await live.agent.executions.start(
        { id, ...request, stdin: options.stdin === true },
        { signal },
      );
      live.commands.started(id, argv, started.exit);
      started.exit.then(leave, leave);
      ctx.counters.add(row.tenant, 'commandsExecutedTotal');
      ctx.counters.addToBox(boxId, { commands: 1 });
      return new EngineExecution(ctx, live, started);
    } catch (error) {
      ctx.counters.add(row.tenant, 'execErrorsTotal');
      ctx.counters.addToBox(boxId, { execErrors: 1 });
      throw isCryoboxError(error, 'timeout') ? startedLate(id, error) : error;
    }
  };
  try {
    return await useBox(ctx, boxId, 'exec', start, signal);
  } catch (error) {
    leave();
    throw error;
  }
}

/** The agent ends a command whose start came too late; whether it began before that, nobody knows. */
function startedLate(id: string, error: CryoboxError): CryoboxError {
  return new CryoboxError('timeout', `${error.message}; whether execution ${id} ran is unknown`, {
    cause: error,
    hint: 'The guest was too busy. The command is ended as soon as the guest answers; see its executions before it is run again.',
    details: { execution: id, outcome: 'unknown' },
  });
}

/** Runs a command and waits for its end and all its output. */
export async function execAndWait(
  ctx: MachinesContext,
  boxId: string,
  argv: readonly string[],
  options: ByteRunOptions,
): Promise<ExecResult<Buffer>> {
  const { stdin, listeners, ...rest } = options;
  return await runWithStdin(stdin, async () => {
    const execution = await startExecution(ctx, boxId, argv, { ...rest, stdin: stdin !== undefined });
    return {
      writer: execution.stdin,
      result: (failed) => collect(execution, failed, { signal: rest.signal, listeners }),
    };
  });
}

/** The executions of one box of the engine, by id. */
export class EngineExecutions implements Executions {
  readonly #ctx: MachinesContext;
  readonly #boxId: string;

  constructor(ctx: MachinesContext, boxId: string) {
    this.#ctx = ctx;
    this.#boxId = boxId;
  }

  async list({ signal }: CallOptions = {}): Promise<ExecutionInfo[]> {
    throwIfCancelled(signal, 'the listing of commands');
    await requireRow(this.#ctx.db, this.#boxId);
    const live = this.#ctx.live.get(this.#boxId);
    if (!live) return [];
    const all = await live.agent.executions.list({ signal });
    return all.map((info) => infoOf(live, info));
  }

  async get(id: string, { signal }: CallOptions = {}): Promise<ExecutionInfo | null> {
    throwIfCancelled(signal, 'the look-up of a command');
    await requireRow(this.#ctx.db, this.#boxId);
    const live = this.#ctx.live.get(this.#boxId);
    if (!live) return null;
    try {
      return infoOf(live, await live.agent.executions.get(id, { signal }));
    } catch (error) {
      if (isCryoboxError(error, 'not_found')) return null;
      throw error;
    }
  }

  async attach(id: string, options: CallOptions & { readonly stdin?: boolean } = {}): Promise<Execution> {
    const { signal } = options;
    using _ = this.#ctx.activity.use(this.#boxId);
    const live = await this.#running(id, signal);
    const guest = await live.agent.executions.attach(id, {}, { signal });
    return new EngineExecution(this.#ctx, live, guest);
  }

  async output(id: string, options: OutputOptions = {}): Promise<ExecutionOutput> {
    const { signal } = options;
    const { stdoutAt = 0, stderrAt = 0 } = options;
    checkOffsets({ stdoutAt, stderrAt });
    const { agent } = await this.#running(id, signal);
    const [stdout, stderr] = await Promise.all([
      agent.executions.output(id, 'stdout', { signal }),
      agent.executions.output(id, 'stderr', { signal }),
    ]);
    const [out, err] = [keptFrom(stdout, stdoutAt), keptFrom(stderr, stderrAt)];
    return { stdout: out.bytes, stdoutAt: out.at, stderr: err.bytes, stderrAt: err.at };
  }

  async signal(id: string, name: number | string, { signal }: CallOptions = {}): Promise<void> {
    const live = await this.#running(id, signal);
    await live.agent.executions.signal(id, name, { signal });
  }

  async kill(id: string, { signal }: CallOptions = {}): Promise<void> {
    const live = await this.#running(id, signal);
    await live.agent.executions.kill(id, { signal });
  }

  async resize(id: string, size: TerminalSize, { signal }: CallOptions = {}): Promise<void> {
    checkTerminal(size);
    const live = await this.#running(id, signal);
    await live.agent.executions.resize(id, size, { signal });
  }

  /** A box that does not run has no executions; asking for one does not start it. */
  async #running(id: string, signal: AbortSignal | undefined): Promise<LiveBox> {
    throwIfCancelled(signal, `what concerns execution ${id}`);
    const { status } = await requireRow(this.#ctx.db, this.#boxId);
    const live = this.#ctx.live.get(this.#boxId);
    if (live) return live;
    if (status === 'paused') {
      throw new CryoboxError('invalid_state', 'the box is paused, and its executions with it', {
        hint: 'Resume the box first.',
        details: { box: this.#boxId, status, execution: id },
      });
    }
    throw new CryoboxError('not_found', `the box does not run, so it has no execution ${JSON.stringify(id)}`);
  }
}

function checkOffsets(offsets: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(offsets)) {
    if (Number.isSafeInteger(value) && value >= 0) continue;
    throw new CryoboxError(
      'invalid_argument',
      `${name} is ${JSON.stringify(value)}, expected a count of bytes`,
    );
  }
}

/** What is kept from an offset on; behind the end there is nothing yet. */
function keptFrom(kept: KeptOutput, from: number): KeptOutput {
  const at = Math.max(kept.at, from);
  return { at, bytes: kept.bytes.subarray(at - kept.at) };
}

function infoOf(live: LiveBox, info: GuestExecutionInfo): ExecutionInfo {
  const lostBytes = { stdout: info.stdoutLost, stderr: info.stderrLost };
  const isWhole = lostBytes.stdout + lostBytes.stderr === 0;
  const lost = () => outputLost({ id: info.exec, boxId: live.boxId, droppedBytes: lostBytes });
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
    pid: info.pid,
    lostBytes,
    ...(isWhole ? {} : { errorMessage: lost().message }),
  };
}

function statusOf(info: GuestExecutionInfo): ExecutionStatus {
  if (info.state === 'running') return 'running';
  if (info.timedOut) return 'timed_out';
  return info.signal === null ? 'completed' : 'killed';
}
