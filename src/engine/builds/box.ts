/** The box that steps of a stage run in, and what a step has changed on its disk, as a layer. */
import { posix } from 'node:path';
import type { FileOwner } from '../../api/index.js';
import { buildLimits } from '../../api/index.js';
import { BoundedTail } from '../../base/bounded-tail.js';
import { CryoboxError } from '../../errors.js';
import { changedLayer } from '../../formats/ext4/index.js';
import { defaultImageLimits } from '../../formats/oci/index.js';
import { openBoth } from '../../formats/qcow2/index.js';
import { type Image, putImage, putLayer } from '../../image/index.js';
import { chainOf, findBox } from '../../store/index.js';
import { EngineBox } from '../boxes/box.js';
import { createBox } from '../boxes/create.js';
import type { StoredImage } from '../images/store.js';
import { knownLayers } from '../layers/copy.js';
import { underLock } from '../machines/locked.js';
import { removeBox } from '../machines/stop.js';
import { requireSnapshot } from '../states/require-snapshot.js';
import type { BuildContext } from './context.js';

/** Size of the disk of a build's box, in GiB: that of bases, so that none is made anew. */
const diskSizeGb = 10;
/** Largest /etc/passwd and /etc/group that are read. */
const maxAccountBytes = 1024 * 1024;

/** How a command of a step is run. */
export interface StepCommand {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly user: string;
  readonly cwd: string;
}

/** A running box of a stage. Disposing of it removes the box. */
export class StageBox implements AsyncDisposable {
  readonly #build: BuildContext;
  readonly #box: EngineBox;
  #moments = 0;

  private constructor(build: BuildContext, box: EngineBox) {
    this.#build = build;
    this.#box = box;
  }

  /** Starts a box of an image. It ends by itself should the engine die and never come back to it. */
  static async start(build: BuildContext, image: StoredImage): Promise<StageBox> {
    const { ctx, tenant, name, signal, cpus, memoryMiB } = build;
    const options = {
      image: name,
      cpus,
      memoryMiB,
      diskSizeGb,
      labels: { 'cryobox.build': name.slice(0, 1024) },
      lifetime: buildLimits.stageSeconds,
      lifetimeAction: 'remove',
      autoDelete: buildLimits.stageSeconds,
      detach: true,
      signal,
    } as const;
    const row = await createBox(ctx, tenant, options, image);
    const box = new StageBox(build, new EngineBox(ctx, row, false));
    try {
      await box.#mark();
      return box;
    } catch (error) {
      await box[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { ctx } = this.#build;
    const { id } = this.#box;
    await underLock(ctx, id, async () => {
      const row = await findBox(ctx.db, id);
      if (row) await removeBox(ctx, row);
    });
  }

  /** Runs a command, told line by line. Throws `build_failed` unless it ends with 0, what cannot be run as `exec` does. */
  async run({ command, env, user, cwd }: StepCommand): Promise<void> {
    const { signal, log } = this.#build;
    await using execution = await this.#box.startExec(command, { env, user, cwd, signal });
    const kept = new BoundedTail(buildLimits.outputBytes);
    const kill = (): void => {
      execution.kill().catch(() => undefined);
    };
    signal.addEventListener('abort', kill, { once: true });
    try {
      for await (const line of execution.all.lines()) {
        kept.add(`${line}\n`);
        log.output(line);
      }
      const { exitCode, signal: killedBy } = await execution.wait({ signal });
      if (exitCode === 0) return;
      const how = exitCode === null ? `was ended by signal ${killedBy}` : `ended with exit code ${exitCode}`;
      throw new CryoboxError('build_failed', `the command ${how}`, {
        details: { exitCode, signal: killedBy, output: kept.text },
      });
    } finally {
      signal.removeEventListener('abort', kill);
    }
  }

  /** Unpacks a tar into a directory, which is made with its parents. */
  async unpack(directory: string, tar: AsyncIterable<Uint8Array>): Promise<void> {
    const { signal } = this.#build;
    await this.#box.files.makeDirectory(directory, { signal });
    await this.#box.files.unpack(posix.join(directory, '/'), tar, { signal });
  }

  /** Makes a directory with its parents where there is none; a new one gets the owner. */
  async makeDirectory(path: string, owner: FileOwner): Promise<void> {
    const { signal } = this.#build;
    if (await this.#box.files.stat(path, { signal })) return;
    await this.#box.files.makeDirectory(path, { owner, signal });
  }

  /** A file or tree of the box as a tar, a tree with its name. Throws `not_found`. */
  async pack(path: string): Promise<AsyncIterable<Uint8Array>> {
    return await this.#box.files.pack(path, { named: true, signal: this.#build.signal });
  }

  /** Whether a path is a directory, links followed no further than the path itself. */
  async isDirectory(path: string): Promise<boolean> {
    const facts = await this.#box.files.stat(path, { signal: this.#build.signal });
    return facts?.type === 'directory';
  }

  /** The numbers of `USER`, `UID`, `USER:GROUP`; a group that is not named is the user's, 0 for a number. Throws `user_not_found`. */
  async ownerOf(name: string): Promise<FileOwner> {
    const [user = '', group] = name.split(':');
    const account = /^\d+$/.test(user) ? undefined : await this.#account('/etc/passwd', user);
    const uid = account?.id ?? Number(user);
    if (group === undefined) return { uid, gid: account?.next ?? 0 };
    const gid = /^\d+$/.test(group) ? Number(group) : (await this.#account('/etc/group', group)).id;
    return { uid, gid };
  }

  async #account(file: string, name: string): Promise<{ readonly id: number; readonly next: number }> {
    const { signal } = this.#build;
    const facts = await this.#box.files.stat(file, { signal });
    const isFine = facts && facts.sizeBytes <= maxAccountBytes;
    const lines = isFine ? (await this.#box.files.read(file, { signal })).toString().split('\n') : [];
    const [, , id, next] = lines.map((line) => line.split(':')).find(([first]) => first === name) ?? [];
    if (id === undefined) {
      throw new CryoboxError('user_not_found', `${file} of the image has no ${JSON.stringify(name)}`, {
        hint: 'Make it by a RUN before, or give its number.',
      });
    }
    return { id: Number(id), next: Number(next) };
  }

  /** The image with what has changed since the last call, or the start, as one more layer. */
  async commit(image: Image): Promise<Image> {
    const { ctx, signal } = this.#build;
    const before = this.#moment;
    await this.#mark();
    const layerOf = async (name: string) => (await requireSnapshot(ctx.db, this.#box.id, name)).disk_layer;
    const [from, to] = [await layerOf(before), await layerOf(this.#moment)];
    const layers = from === to ? image.layers : [...image.layers, await this.#layerOf(from, to)];
    await this.#box.snapshot.remove(before, { signal });
    const { config, platform } = image;
    return await putImage(ctx.images.blobs, {
      layers,
      config,
      platform,
      createdAt: new Date().toISOString(),
    });
  }

  async #layerOf(from: string, to: string): Promise<Image['layers'][number]> {
    const { ctx, signal } = this.#build;
    const chains = await Promise.all([chainOf(ctx.db, from), chainOf(ctx.db, to)]);
    await using disks = await openBoth(knownLayers(ctx, chains[0]), knownLayers(ctx, chains[1]));
    const what = `the disk of box ${this.#box.id}`;
    const tar = changedLayer(
      { chain: disks.from, what },
      { chain: disks.to, what },
      { maxBytes: defaultImageLimits.maxTotalBytes, signal },
    );
    return await putLayer(ctx.images.blobs, tar, signal);
  }

  get #moment(): string {
    return `build-${this.#moments}`;
  }

  async #mark(): Promise<void> {
    this.#moments += 1;
    await this.#box.snapshot.create(this.#moment, { signal: this.#build.signal });
  }
}
