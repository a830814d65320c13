import type {
  Box,
  BoxInfo,
  BoxMetrics,
  ByteSource,
  CallOptions,
  CloneOptions,
  ExecOptions,
  ExecResult,
  Execution,
  Executions,
  ExportOptions,
  Files,
  ForkResult,
  Pager,
  PortConnection,
  ResumeResult,
  Snapshots,
  StartExecOptions,
} from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { cloneBox } from '../disks/clone.js';
import { exportBox, exportBytes, type HeldBox, holdBox } from '../disks/export.js';
import { EngineSnapshots } from '../disks/snapshots.js';
import { EngineExecutions, execAndWait, startExecution } from '../exec/executions.js';
import { EngineFiles } from '../exec/files.js';
import { type ForkOptions, forkBox } from '../memory/fork.js';
import { pauseBox } from '../memory/pause.js';
import { resumeBox } from '../memory/resume.js';
import { readConsole } from './console.js';
import { armTimers } from './idle.js';
import { exclusively } from './locked.js';
import { boxMetrics } from './metrics.js';
import { requireRow } from './rows.js';
import { startBox } from './start.js';
import { removeBox, stopBox } from './stop.js';
import { dialBox, useBox } from './use.js';

/** A handle on one box of the engine: every method is one operation. */
export class EngineBox implements Box {
  readonly id: string;
  readonly name: string | null;
  readonly files: Files;
  readonly executions: Executions;
  readonly snapshot: Snapshots;
  readonly #ctx: EngineContext;
  readonly #owned: boolean;

  /** `owned`: disposing of the handle removes the box. */
  constructor(ctx: EngineContext, row: Pick<BoxRow, 'id' | 'name'>, owned: boolean) {
    this.#ctx = ctx;
    this.#owned = owned;
    this.id = row.id;
    this.name = row.name;
    this.files = new EngineFiles(ctx, row.id);
    this.executions = new EngineExecutions(ctx, row.id);
    this.snapshot = new EngineSnapshots(ctx, row.id);
  }

  async info(): Promise<BoxInfo> {
    return await this.#ctx.infos.of(await requireRow(this.#ctx.db, this.id));
  }

  async metrics(): Promise<BoxMetrics> {
    return await boxMetrics(this.#ctx, this.id);
  }

  async start(options: CallOptions & { readonly discardMemory?: boolean } = {}): Promise<void> {
    const operation = options.discardMemory ? 'start.discardMemory' : 'start';
    await exclusively(this.#ctx, this.id, operation, async (row) => {
      if (this.#ctx.live.get(row.id)) return;
      await startBox(this.#ctx, row);
      armTimers(this.#ctx, row);
    });
  }

  async stop(options: CallOptions & { readonly timeoutMs?: number } = {}): Promise<void> {
    await exclusively(this.#ctx, this.id, 'stop', async (row) => {
      await stopBox(this.#ctx, row, options.timeoutMs);
      armTimers(this.#ctx, await requireRow(this.#ctx.db, this.id));
    });
  }

  async remove(options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    await exclusively(this.#ctx, this.id, 'remove', async (row) => {
      if (this.#ctx.live.get(row.id) && options.force !== true) {
        throw new CryoboxError('invalid_state', 'cannot remove a box that is running', {
          hint: 'Stop the box first, or remove it by force.',
          details: { box: row.id, status: row.status },
        });
      }
      await removeBox(this.#ctx, row);
    });
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return await execAndWait(this.#ctx, this.id, argv, options);
  }

  async startExec(argv: readonly string[], options: StartExecOptions = {}): Promise<Execution> {
    return await startExecution(this.#ctx, this.id, argv, options);
  }

  async dial(port: number, options: CallOptions = {}): Promise<PortConnection> {
    return await useBox(this.#ctx, this.id, 'exec', (live) => dialBox(live, port, options));
  }

  async consoleLog(): Promise<string> {
    await requireRow(this.#ctx.db, this.id);
    return await readConsole(this.#ctx, this.id);
  }

  async clone(name?: string, options: CloneOptions = {}): Promise<Box> {
    const clone = await cloneBox(this.#ctx, this.id, name, options);
    const box = new EngineBox(this.#ctx, clone, false);
    if (options.startAfterClone) await box.start({ signal: options.signal });
    return box;
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

  async pause(): Promise<void> {
    await exclusively(this.#ctx, this.id, 'pause', async (row) => {
      await pauseBox(this.#ctx, row);
      armTimers(this.#ctx, await requireRow(this.#ctx.db, this.id));
    });
  }

  async resume(options: CallOptions & { readonly pager?: Pager } = {}): Promise<ResumeResult> {
    const ctx = this.#ctx;
    return await exclusively(ctx, this.id, 'resume', async (row) => {
      const live = ctx.live.get(row.id);
      if (live)
        return { pager: live.memory.baseLayer === null ? 'uffd' : 'mmap', resumed: false, stages: {} };
      const { result } = await resumeBox(ctx, row, { pager: options.pager });
      armTimers(ctx, await requireRow(ctx.db, row.id));
      return result;
    });
  }

  async fork(options: ForkOptions): Promise<ForkResult[]> {
    const children = await forkBox(this.#ctx, this.id, options);
    return children.map((child) =>
      'row' in child ? { box: new EngineBox(this.#ctx, child.row, false) } : child,
    );
  }

  /** The box as it is now, kept for an export while the box goes on. */
  async #hold(options: ExportOptions): Promise<{ row: BoxRow; taken: HeldBox }> {
    return await exclusively(this.#ctx, this.id, 'export', async (row) => ({
      row,
      taken: await holdBox(this.#ctx, row, options),
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#owned) return;
    await this.remove({ force: true }).catch((error: unknown) => {
      if (!(error instanceof CryoboxError && error.code === 'not_found')) throw error;
    });
  }
}
