/** Makes an image by the steps of a Dockerfile. */
import { join, posix } from 'node:path';
import {
  type ByteSource,
  boxLimits,
  buildLimits,
  type DockerfileBuildOptions,
  type PullResult,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { defaultImageLimits } from '../../formats/oci/index.js';
import { type Image, loadImage, putImage } from '../../image/index.js';
import { importEnvText } from '../../surface/import-env.js';
import type { EngineContext } from '../boxes/context.js';
import { checkInteger } from '../record/integers.js';
import { StageBox } from './box.js';
import type { BuildContext } from './context.js';
import { badStep, type Dockerfile, parseDockerfile, refused, type Step } from './dockerfile.js';
import { SourceFiles } from './files.js';
import { reporter } from './report.js';
import { type CopySource, contentKey, Stage } from './stage.js';
import { expand, type Variables, wordsOf } from './words.js';

/** Memory of the boxes that steps run in: what package managers need. */
const defaultMemoryMiB = 1024;

/** What a build is made of: everything of it in one tar. */
export interface BuildInput
  extends Omit<DockerfileBuildOptions, 'context' | 'dockerfile' | 'dockerfileText'> {
  /** The context, with the Dockerfile in it. */
  readonly tar: ByteSource;
  /** Path of the Dockerfile in the tar. */
  readonly dockerfile: string;
}

/**
 * Builds an image and makes a tenant's reference point at it. Steps run in boxes of the tenant, one after the other; what
 * earlier builds of the tenant made of the same is taken. Throws `build_failed` with the step and the end of what it wrote,
 * `invalid_argument`, `unsupported`, `not_found`, `payload_too_large`, `resource_exhausted`, `disk_full`, `cancelled`; the
 * reference is as it was then, and no box is left.
 */
export async function buildFromSteps(
  ctx: EngineContext,
  tenant: string,
  name: string,
  input: BuildInput,
): Promise<PullResult> {
  const { cpus, memoryMiB = defaultMemoryMiB, buildArgs } = input;
  // What a server cannot be asked is not asked of an engine in this process either.
  if (buildArgs) importEnvText(buildArgs, 'buildArgs');
  checkInteger('cpus', cpus, boxLimits.cpus.min, boxLimits.cpus.max);
  checkInteger('memoryMiB', memoryMiB, boxLimits.memoryMiB.min, boxLimits.memoryMiB.max);
  return await ctx.images.made(tenant, name, input, async (signal) => {
    await using scratch = await ctx.scratch.take();
    await using context = await SourceFiles.open(join(scratch.path, 'context'));
    await context.add(input.tar, signal);
    throwIfCancelled(signal, 'the build of an image');
    const text = await context.take(input.dockerfile, buildLimits.dockerfileBytes);
    if (text === undefined) throw noDockerfile(input.dockerfile);
    const dockerfile = parseDockerfile(text);
    await context.ignoreNamed();
    const build = {
      ctx,
      tenant,
      name,
      signal,
      cpus,
      memoryMiB,
      noCache: input.noCache ?? false,
      log: reporter(input.onProgress),
    };
    const run = new Run(build, dockerfile, context, scratch.path, input);
    return await run.image();
  });
}

class Run {
  readonly #build: BuildContext;
  readonly #dockerfile: Dockerfile;
  readonly #context: SourceFiles;
  readonly #folder: string;
  readonly #buildArgs: Variables;
  readonly #globals: Variables;
  readonly #targetIndex: number;
  readonly #done = new Map<number, Image>();
  readonly #total: number;
  readonly #opened: SourceFiles[] = [];
  #step = 0;

  constructor(
    build: BuildContext,
    dockerfile: Dockerfile,
    context: SourceFiles,
    folder: string,
    { buildArgs = {}, target }: BuildInput,
  ) {
    this.#build = build;
    this.#dockerfile = dockerfile;
    this.#context = context;
    this.#folder = folder;
    this.#buildArgs = buildArgs;
    this.#globals = globalsOf(dockerfile.globals, buildArgs);
    refuseUnknownArgs(dockerfile, buildArgs);
    this.#targetIndex = target === undefined ? dockerfile.stages.length - 1 : this.#indexOf(target);
    if (this.#targetIndex < 0) throw noTarget(target ?? '', dockerfile);
    this.#total = dockerfile.stages
      .slice(0, this.#targetIndex + 1)
      .reduce((sum, { steps }) => sum + steps.length + 1, 0);
  }

  async image(): Promise<Image> {
    try {
      return await this.#stage(this.#targetIndex);
    } finally {
      for (const files of this.#opened) await files[Symbol.asyncDispose]();
    }
  }

  /** Stages are built when they are needed, each once. */
  async #stage(index: number): Promise<Image> {
    const done = this.#done.get(index);
    if (done) return done;
    const described = this.#dockerfile.stages[index];
    if (!described) throw new CryoboxError('internal', `the build has no stage ${index}`);
    const base = await this.#base(described.from, index);
    this.#tell(described.from, false);
    await using stage = new Stage(
      {
        build: this.#build,
        buildArgs: this.#buildArgs,
        globals: this.#globals,
        source: (from, step) => this.#source(from, step, index),
        onStep: (step, isKnown) => this.#tell(step, isKnown),
      },
      base,
    );
    for (const step of described.steps) await stage.run(step);
    const { layers, platform, config } = stage.image;
    const createdAt = new Date().toISOString();
    const image = await putImage(this.#build.ctx.images.blobs, { layers, platform, config, createdAt });
    this.#done.set(index, image);
    return image;
  }

  #tell(step: Step, isKnown: boolean): void {
    this.#step += 1;
    this.#build.log.step(`[${this.#step}/${this.#total}] ${step.text}${isKnown ? ' (unchanged)' : ''}`);
  }

  /** Number of the stage with that name or number; -1: there is none. */
  #indexOf(name: string): number {
    const { stages } = this.#dockerfile;
    const byName = stages.findIndex((stage) => stage.name === name.toLowerCase());
    if (byName >= 0) return byName;
    return /^\d+$/.test(name) && Number(name) < stages.length ? Number(name) : -1;
  }

  async #base(step: Step, index: number): Promise<Image> {
    const [reference = ''] = wordsOf(step.rest, this.#globals);
    if (reference === '') throw badStep(step, 'names no image');
    if (reference === 'scratch') {
      throw new CryoboxError('unsupported', `FROM scratch (line ${step.line}) is not supported in builds`, {
        hint: 'Steps need a shell: begin with an image, or import a finished one by `cryobox images import`.',
        details: { line: step.line },
      });
    }
    const platform = step.flags.get('platform');
    return await this.#named(reference, index, step, platform && expand(platform, this.#globals));
  }

  /** A stage above, or an image of the tenant or of a registry. */
  async #named(reference: string, before: number, step: Step, platform?: string): Promise<Image> {
    const index = this.#indexOf(reference);
    if (index >= 0 && index < before) return await this.#stage(index);
    const { ctx, tenant, signal } = this.#build;
    try {
      const { allowedRegistries } = ctx;
      const { row } = await ctx.images.require(tenant, reference, { signal, allowedRegistries, platform });
      return await loadImage(ctx.images.blobs, row.manifest_digest, defaultImageLimits);
    } catch (error) {
      if (!isCryoboxError(error) || signal.aborted) throw error;
      const { code, message, hint, details } = error;
      const text = `line ${step.line} of the Dockerfile (${step.text}): ${message}`;
      throw new CryoboxError(code, text, { cause: error, hint, details: { ...details, line: step.line } });
    }
  }

  async #source(from: string | undefined, step: Step, index: number): Promise<CopySource> {
    if (from === undefined) return { key: undefined, files: () => Promise.resolve(this.#context) };
    const image = await this.#named(from, index, step);
    return { key: contentKey(image), files: (sources) => this.#taken(image, sources) };
  }

  /** Files of another image, by a box of it. Wildcards are not looked for there. */
  async #taken(image: Image, sources: readonly string[]): Promise<SourceFiles> {
    const build = this.#build;
    const files = await SourceFiles.open(join(this.#folder, `source-${this.#opened.length}`));
    this.#opened.push(files);
    await using box = await StageBox.start(build, build.ctx.images.unnamed(build.tenant, build.name, image));
    for (const source of sources) {
      if (/[*?[]/.test(source)) throw refused(`a pattern in COPY --from (${source})`, 'Name a directory.');
      const path = posix.resolve('/', source);
      await files.add(await box.pack(path), build.signal, posix.dirname(path));
    }
    return files;
  }
}

/** Values of ARG before the first FROM. */
function globalsOf(steps: readonly Step[], buildArgs: Variables): Variables {
  const values: Record<string, string> = {};
  for (const { rest } of steps) {
    for (const word of wordsOf(rest, values)) {
      const [name = '', ...value] = word.split('=');
      const given = buildArgs[name] ?? (word.includes('=') ? value.join('=') : undefined);
      if (given !== undefined) values[name] = given;
    }
  }
  return values;
}

/** A value that nothing asks for is a name that was misspelt. */
function refuseUnknownArgs({ globals, stages }: Dockerfile, buildArgs: Variables): void {
  const steps = [...globals, ...stages.flatMap((stage) => stage.steps)];
  const asked = new Set(
    steps
      .filter(({ keyword }) => keyword === 'ARG')
      .flatMap(({ rest }) => rest.split(/\s+/).map((word) => word.split('=')[0])),
  );
  const odd = Object.keys(buildArgs).find((name) => !asked.has(name));
  if (odd === undefined) return;
  throw new CryoboxError('invalid_argument', `the Dockerfile has no ARG ${odd}`, {
    hint: `Write \`ARG ${odd}\` where the value is used, or leave it out.`,
  });
}

function noTarget(target: string, { stages }: Dockerfile): CryoboxError {
  const names = stages.map(({ name }, i) => name ?? String(i)).join(', ');
  return new CryoboxError('invalid_argument', `the Dockerfile has no stage ${JSON.stringify(target)}`, {
    hint: `Its stages are ${names}.`,
  });
}

function noDockerfile(path: string): CryoboxError {
  return new CryoboxError('not_found', `there is no ${path} in the context`, {
    hint: 'Name the Dockerfile: `cryobox images build -f FILE -t NAME CONTEXT`.',
  });
}
