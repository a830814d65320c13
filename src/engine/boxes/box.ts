import type {
  Box,
  BoxInfo,
  BoxMetrics,
  BoxNetwork,
  BoxPorts,
  BoxPreviews,
  BoxSecrets,
  ByteSource,
  CallOptions,
  CloneOptions,
  Command,
  DialOptions,
  DiffOptions,
  DiskDiff,
  DiskLimits,
  ExecBytesOptions,
  ExecOptions,
  ExecResult,
  Execution,
  Executions,
  ExportOptions,
  Files,
  ForkResult,
  LifetimeOptions,
  MainOutput,
  MetricsSeries,
  Pager,
  PortConnection,
  ResumeResult,
  SeriesOptions,
  Snapshots,
  StartExecOptions,
  WaitForPortOptions,
} from '../../api/index.js';
import { abortable, throwIfCancelled } from '../../base/abort.js';
import { noMain } from '../../base/not-running.js';
import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import { type AnyResult, execute, wordsOf } from '../../surface/exec.js';
import { checkSince } from '../../surface/since.js';
import { waitForPort } from '../../surface/wait-for-port.js';
import { EngineExecutions, execAndWait, startExecution } from '../commands/executions.js';
import { EngineFiles } from '../commands/files.js';
import { openPort } from '../commands/use.js';
import { readConsole } from '../machines/console.js';
import { checkLegal, exclusively } from '../machines/locked.js';
import { readMainOutput } from '../machines/main.js';
import { startBox } from '../machines/start.js';
import { removeBox, stopBox } from '../machines/stop.js';
import { livingMachine } from '../machines/watch.js';
import { checkDiskLimits } from '../record/disk-limits.js';
import { configOf, requireRow } from '../record/rows.js';
import { checkName } from '../record/validate.js';
import { notReplicating } from '../replicas/release.js';
import { cloneBox } from '../states/clone.js';
import { diffStates } from '../states/diff.js';
import { type ForkOptions, forkBox } from '../states/fork.js';
import { pauseBox } from '../states/pause.js';
import { resumeBox } from '../states/resume.js';
import { EngineSnapshots } from '../states/snapshots.js';
import { exportBox, exportBytes, type HeldBox, holdBox } from '../transfer/export.js';
import type { EngineContext } from './context.js';
import { limitDisk } from './disk-limits.js';
import { setLifetime } from './lifetime.js';
import { boxMetrics } from './metrics.js';
import { EngineNetwork } from './network.js';
import { EnginePorts } from './ports.js';
import { EnginePreviews } from './previews.js';
import { renameBox } from './rename.js';
import { EngineSecrets } from './secrets.js';

/** A handle on one box of the engine: every method is one operation. */
export class EngineBox implements Box {
  readonly id: string;
  readonly files: Files;
  readonly executions: Executions;
  readonly snapshot: Snapshots;
  readonly network: BoxNetwork;
  readonly ports: BoxPorts;
  readonly previews: BoxPreviews;
  readonly secrets: BoxSecrets;
  readonly #ctx: EngineContext;
  readonly #owned: boolean;
  #name: string | null;

  /** `owned`: disposing of the handle removes the box. */
  constructor(ctx: EngineContext, row: Pick<BoxRow, 'id' | 'name'>, owned: boolean) {
    this.#ctx = ctx;
    this.#owned = owned;
    this.id = row.id;
    this.#name = row.name;
    this.files = new EngineFiles(ctx, row.id);
    this.executions = new EngineExecutions(ctx, row.id);
    this.snapshot = new EngineSnapshots(ctx, row.id);
    this.network = new EngineNetwork(ctx, row.id);
    this.ports = new EnginePorts(ctx, row.id);
    this.previews = new EnginePreviews(ctx, row.id);
    this.secrets = new EngineSecrets(ctx, row.id);
  }

  get name(): string | null {
    return this.#name;
  }

  async info({ signal }: CallOptions = {}): Promise<BoxInfo> {
    throwIfCancelled(signal, 'the look at a box');
    return await this.#ctx.infos.of(await requireRow(this.#ctx.db, this.id));
  }

  async metrics({ signal }: CallOptions = {}): Promise<BoxMetrics> {
    throwIfCancelled(signal, 'the measuring of a box');
    return await abortable(boxMetrics(this.#ctx, this.id), signal);
  }

  async metricsSeries({ since, signal }: SeriesOptions = {}): Promise<MetricsSeries> {
    throwIfCancelled(signal, "the reading of a box's series");
    checkSince(since);
    await requireRow(this.#ctx.db, this.id);
    return await abortable(this.#ctx.series.of(this.id, since), signal);
  }

  async start(options: CallOptions & { readonly discardMemory?: boolean } = {}): Promise<void> {
    const operation = options.discardMemory ? 'start.discardMemory' : 'start';
    const { signal } = options;
    const start = async (row: BoxRow): Promise<void> => {
      if (await livingMachine(this.#ctx, row.id, signal)) return;
      // A machine that had just ended may have left another state than was there before.
      const current = await requireRow(this.#ctx.db, row.id);
      checkLegal(operation, current);
      await startBox(this.#ctx, current, signal);
    };
    await exclusively(this.#ctx, this.id, operation, start, signal);
  }

  async stop(options: CallOptions & { readonly timeoutMs?: number } = {}): Promise<void> {
    const stop = (row: BoxRow): Promise<void> => stopBox(this.#ctx, row, options.timeoutMs);
    await exclusively(this.#ctx, this.id, 'stop', stop, options.signal);
  }

  async rename(name: string, { signal }: CallOptions = {}): Promise<void> {
    checkName(name);
    const rename = (row: BoxRow): Promise<void> => renameBox(this.#ctx, row, name);
    await exclusively(this.#ctx, this.id, 'rename', rename, signal);
    this.#name = name;
  }

  async limitDisk(limits: DiskLimits, { signal }: CallOptions = {}): Promise<void> {
    checkDiskLimits(limits);
    const limit = (row: BoxRow): Promise<void> => limitDisk(this.#ctx, row, limits);
    await exclusively(this.#ctx, this.id, 'disk.limit', limit, signal);
  }

  async setLifetime(seconds: number, options: LifetimeOptions = {}): Promise<void> {
    await setLifetime(this.#ctx, this.id, seconds, options);
  }

  async remove(options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const remove = async (row: BoxRow): Promise<void> => {
      if (this.#ctx.live.get(row.id) && options.force !== true) {
        throw new CryoboxError('invalid_state', 'cannot remove a box that is running', {
          hint: 'Stop the box first, or remove it by force.',
          details: { box: row.id, status: row.status },
        });
      }
      await removeBox(this.#ctx, row);
    };
    await exclusively(this.#ctx, this.id, 'remove', remove, options.signal);
  }

  exec(command: Command, options: ExecBytesOptions): Promise<ExecResult<Buffer>>;
  exec(command: Command, options?: ExecOptions): Promise<ExecResult>;
  async exec(command: Command, options: ExecOptions | ExecBytesOptions = {}): Promise<AnyResult> {
    return await execute(command, options, (argv, run) => execAndWait(this.#ctx, this.id, argv, run));
  }

  async startExec(command: Command, options: StartExecOptions = {}): Promise<Execution> {
    return await startExecution(this.#ctx, this.id, wordsOf(command), options);
  }

  async dial(port: number, options: DialOptions = {}): Promise<PortConnection> {
    return await openPort(this.#ctx, this.id, port, options);
  }

  async mainOutput({ signal }: CallOptions = {}): Promise<MainOutput> {
    throwIfCancelled(signal, "the reading of a main command's output");
    const row = await requireRow(this.#ctx.db, this.id);
    if (!configOf(row).main) throw noMain(this.id);
    return await abortable(readMainOutput(this.#ctx, this.id), signal);
  }

  async waitForPort(port: number, options: WaitForPortOptions = {}): Promise<void> {
    await waitForPort(this, port, options);
  }

  async consoleLog({ signal }: CallOptions = {}): Promise<string> {
    throwIfCancelled(signal, 'the reading of a console');
    await requireRow(this.#ctx.db, this.id);
    return await readConsole(this.#ctx, this.id);
  }

  async diff(options: DiffOptions = {}): Promise<DiskDiff> {
    return await diffStates(this.#ctx, this.id, options);
  }

  async clone(name?: string, options: CloneOptions = {}): Promise<Box> {
    const clone = await cloneBox(this.#ctx, this.id, name, options);
    const box = new EngineBox(this.#ctx, clone, false);
    if (!options.startAfterClone) return box;
    try {
      await box.start({ signal: options.signal });
    } catch (error) {
      await box.remove({ force: true });
      throw error;
    }
    return box;
  }

  async release({ signal }: CallOptions = {}): Promise<void> {
    throwIfCancelled(signal, 'the release of a box');
    const { replicator } = this.#ctx;
    if (!replicator) throw notReplicating();
    // Said at once, not after its turn in what is copied; it is looked at again under the lock.
    checkLegal('release', await requireRow(this.#ctx.db, this.id));
    await replicator.release(this.id, signal);
  }

  async export(destination: string, options: ExportOptions = {}): Promise<string> {
    const { row, taken } = await this.#hold(options);
    await using held = taken;
    return await exportBox(this.#ctx, row, held, destination, options);
  }

  async exportStream(options: ExportOptions = {}): Promise<ByteSource> {
    const { row, taken } = await this.#hold(options);
    await using held = taken;
    return await exportBytes(this.#ctx, row, held, options);
  }

  async pause({ signal }: CallOptions = {}): Promise<void> {
    const pause = (row: BoxRow): Promise<void> => pauseBox(this.#ctx, row, signal);
    await exclusively(this.#ctx, this.id, 'pause', pause, signal);
  }

  async resume(options: CallOptions & { readonly pager?: Pager } = {}): Promise<ResumeResult> {
    const ctx = this.#ctx;
    const { pager, signal } = options;
    const resume = async (row: BoxRow): Promise<ResumeResult> => {
      const live = ctx.live.get(row.id);
      if (live)
        return { pager: live.memory.baseLayer === null ? 'uffd' : 'mmap', resumed: false, stages: {} };
      const { result } = await resumeBox(ctx, row, { pager, signal });
      return result;
    };
    return await exclusively(ctx, this.id, 'resume', resume, signal);
  }

  async fork(options: ForkOptions): Promise<ForkResult[]> {
    const children = await forkBox(this.#ctx, this.id, options);
    return children.map((child) =>
      'row' in child ? { box: new EngineBox(this.#ctx, child.row, false) } : child,
    );
  }

  /** The box as it is now, kept for an export while the box goes on. */
  async #hold(options: ExportOptions): Promise<{ row: BoxRow; taken: HeldBox }> {
    return await exclusively(
      this.#ctx,
      this.id,
      options.memory ? 'export.memory' : 'export',
      async (row) => ({
        row,
        taken: await holdBox(this.#ctx, row, options),
      }),
      options.signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#owned) return;
    await this.remove({ force: true }).catch((error: unknown) => {
      if (!(error instanceof CryoboxError && error.code === 'not_found')) throw error;
    });
  }
}
