/** Runs the steps of one stage, or takes what earlier builds made of them. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { buildLimits } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { defaultImageLimits, type ImageConfig } from '../../formats/oci/index.js';
import { type Image, loadImage } from '../../image/index.js';
import { putBuildStep, useBuildStep } from '../../store/index.js';
import { blobsOf } from '../images/contents.js';
import type { StoredImage } from '../images/store.js';
import { StageBox } from './box.js';
import type { BuildContext } from './context.js';
import { badStep, refused, type Step } from './dockerfile.js';
import type { SourceFiles } from './files.js';
import { expand, pairsOf, type Variables, wordsOf } from './words.js';

/** Files that COPY takes, and what they are known by before they are there. */
export interface CopySource {
  /** Undefined: the files themselves say it. */
  readonly key: string | undefined;
  files(sources: readonly string[]): Promise<SourceFiles>;
}

/** Where the steps of a stage get what is not in them. */
export interface StageNeeds {
  readonly build: BuildContext;
  readonly buildArgs: Variables;
  /** ARG before the first FROM. */
  readonly globals: Variables;
  /** The context, or by `--from` a stage or an image. */
  source(from: string | undefined, step: Step): Promise<CopySource>;
  /** Told before each step. */
  onStep(step: Step, isKnown: boolean): void;
}

const version = 1;
const defaultShell = ['/bin/sh', '-c'];

/** A stage while its steps are run. */
export class Stage implements AsyncDisposable {
  readonly #needs: StageNeeds;
  #image: Image;
  #config: ImageConfig;
  #key: string;
  #shell: readonly string[] = defaultShell;
  readonly #args: Record<string, string> = {};
  #box: StageBox | undefined;
  /** Once a step was run, what is known of later ones was made of something else. */
  #isFresh: boolean;

  constructor(needs: StageNeeds, base: Image) {
    this.#needs = needs;
    this.#image = base;
    this.#config = base.config;
    this.#key = contentKey(base);
    this.#isFresh = needs.build.noCache;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#box?.[Symbol.asyncDispose]();
    this.#box = undefined;
  }

  /** What the stage has come to, its configuration with it. */
  get image(): Image {
    return { ...this.#image, config: this.#config };
  }

  /** Runs a step. What it fails with names the step and its line. */
  async run(step: Step): Promise<void> {
    throwIfCancelled(this.#needs.build.signal, 'the build of an image');
    try {
      await this.#apply(step);
    } catch (error) {
      if (!isCryoboxError(error) || this.#needs.build.signal.aborted) throw error;
      const { code, message, hint, details } = error;
      if (typeof details?.['line'] === 'number') throw error;
      throw new CryoboxError(code, `line ${step.line} of the Dockerfile (${step.text}): ${message}`, {
        cause: error,
        hint,
        details: { ...details, step: step.text, line: step.line },
      });
    }
  }

  async #apply(step: Step): Promise<void> {
    switch (step.keyword) {
      case 'RUN':
        return await this.#runCommand(step);
      case 'COPY':
      case 'ADD':
        return await this.#copy(step);
      case 'WORKDIR':
        return await this.#workingDir(step);
      case 'ARG':
        return this.#arg(step);
      case 'SHELL':
        this.#shell = this.#listOf(step);
        return this.#note(step, this.#shell);
      default:
        this.#config = { ...this.#config, ...this.#configured(step) };
        return this.#note(step, this.#config);
    }
  }

  get #variables(): Variables {
    return { ...this.#args, ...this.#config.env };
  }

  #configured(step: Step): Partial<ImageConfig> {
    const { rest } = step;
    const variables = this.#variables;
    const { env, labels, exposedPorts, volumes } = this.#config;
    switch (step.keyword) {
      case 'ENV':
        return { env: { ...env, ...Object.fromEntries(pairsOf(rest, variables)) } };
      case 'LABEL':
        return { labels: { ...labels, ...Object.fromEntries(pairsOf(rest, variables)) } };
      case 'USER':
        return { user: this.#oneWord(step) };
      case 'CMD':
        return { cmd: this.#commandOf(step) };
      case 'ENTRYPOINT':
        // What the image below would give it as arguments belongs to another program.
        return { entrypoint: this.#commandOf(step), cmd: [] };
      case 'EXPOSE':
        return { exposedPorts: [...new Set([...exposedPorts, ...wordsOf(rest, variables).map(portOf)])] };
      case 'VOLUME':
        return { volumes: [...new Set([...volumes, ...(step.list ?? wordsOf(rest, variables))])] };
      case 'STOPSIGNAL':
        return { stopSignal: this.#oneWord(step) };
      default:
        throw badStep(step, 'is not expected here');
    }
  }

  #arg(step: Step): void {
    const { buildArgs, globals } = this.#needs;
    for (const word of wordsOf(step.rest, this.#variables)) {
      const [name = '', ...value] = word.split('=');
      const given = buildArgs[name] ?? (word.includes('=') ? value.join('=') : globals[name]);
      if (given !== undefined) this.#args[name] = given;
    }
    this.#note(step, this.#args);
  }

  /** A step that only says something changes what the next ones are known by. */
  #note(step: Step, what: unknown): void {
    this.#needs.onStep(step, false);
    this.#key = hashOf([this.#key, step.keyword, what]);
  }

  #commandOf(step: Step): readonly string[] {
    return step.list ?? [...this.#shell, step.rest];
  }

  #listOf(step: Step): readonly string[] {
    if (step.list && step.list.length > 0) return step.list;
    throw badStep(step, 'should be a JSON list of texts');
  }

  #oneWord(step: Step): string {
    const words = wordsOf(step.rest, this.#variables);
    if (words.length === 1 && words[0]) return words[0];
    throw badStep(step, 'should have one word');
  }

  async #runCommand(step: Step): Promise<void> {
    const { env, user, workingDir } = this.#config;
    const command = this.#commandOf(step);
    const run = { command, env: { ...this.#args, ...env }, user: user || 'root', cwd: workingDir };
    await this.#changed(step, run, (box) => box.run(run));
  }

  async #workingDir(step: Step): Promise<void> {
    const path = posix.resolve(this.#config.workingDir, this.#oneWord(step));
    this.#config = { ...this.#config, workingDir: path };
    await this.#changed(step, path, (box) => box.makeDirectory(path, { uid: 0, gid: 0 }));
  }

  async #copy(step: Step): Promise<void> {
    const words = (step.list ?? wordsOf(step.rest, this.#variables)).map((word) =>
      step.list ? expand(word, this.#variables) : word,
    );
    const target = words.at(-1) ?? '';
    const sources = words.slice(0, -1);
    if (sources.length === 0) throw badStep(step, 'should name what is copied and where to');
    if (step.keyword === 'ADD') refuseAdd(step, sources);
    const flag = (name: string) => {
      const value = step.flags.get(name);
      return value === undefined ? undefined : expand(value, this.#variables);
    };
    const mode = modeOf(step, flag('chmod'));
    const owner = flag('chown');
    const source = await this.#needs.source(flag('from'), step);
    const isIn = target.endsWith('/') ? '/' : '';
    const path = posix.resolve(this.#config.workingDir, target) + isIn;
    const known = source.key ?? contentOf(await source.files(sources), sources, path);
    await this.#changed(step, { known, sources, path, owner, mode }, async (box) => {
      const files = await source.files(sources);
      const place = !isIn && (await box.isDirectory(path)) ? `${path}/` : path;
      const chosen = files.choose(sources, place);
      const isFile = chosen.length === 1 && chosen[0]?.name === '';
      const directory = isFile ? posix.dirname(place) : posix.resolve(place);
      const { uid, gid } = owner === undefined ? { uid: 0, gid: 0 } : await box.ownerOf(owner);
      const named = isFile
        ? chosen.map((each) => ({ ...each, name: Buffer.from(posix.basename(place)).toString('latin1') }))
        : chosen;
      await box.unpack(
        directory,
        files.pack(named, () => ({ uid, gid, ...(mode === undefined ? {} : { mode }) })),
      );
    });
  }

  /** A step that changes files: taken from an earlier build where the same was done to the same, else run. */
  async #changed(step: Step, input: unknown, run: (box: StageBox) => Promise<void>): Promise<void> {
    const { build, onStep } = this.#needs;
    const { ctx, tenant } = build;
    const key = hashOf([this.#key, step.keyword, input]);
    const known = this.#isFresh ? undefined : await this.#known(key);
    onStep(step, known !== undefined);
    if (known) this.#image = known;
    else {
      this.#isFresh = true;
      this.#box ??= await StageBox.start(build, this.#stored());
      await run(this.#box);
      this.#image = await this.#box.commit(this.#image);
      const row = {
        tenant,
        key,
        manifest_digest: this.#image.manifestDigest,
        config_digest: this.#image.configDigest,
        layers: JSON.stringify(this.#image.layers),
        used_at: Date.now(),
      };
      const gone = await ctx.commits.run((tx) => putBuildStep(tx, row, buildLimits.cachedSteps));
      await ctx.images.contents.discard(gone.flatMap(blobsOf));
    }
    this.#key = key;
  }

  /** What a step made before, as long as all of it is there. */
  async #known(key: string): Promise<Image | undefined> {
    const { ctx, tenant } = this.#needs.build;
    const row = await ctx.commits.run((tx) => useBuildStep(tx, tenant, key, Date.now()));
    if (!row) return undefined;
    const image = await loadImage(ctx.images.blobs, row.manifest_digest, defaultImageLimits).catch(
      () => undefined,
    );
    for (const { digest } of image?.layers ?? []) {
      if ((await ctx.images.blobs.verifiedSize(digest)) === undefined) return undefined;
    }
    return image;
  }

  #stored(): StoredImage {
    const { ctx, tenant, name } = this.#needs.build;
    return ctx.images.unnamed(tenant, name, { ...this.#image, config: this.#config });
  }
}

/** What the content of files and where they go is known by. */
function contentOf(files: SourceFiles, sources: readonly string[], target: string): string {
  const chosen = files.choose(sources, target);
  return hashOf(
    chosen
      .map(({ file, name }) => [name, file.type, file.mode, file.sha256])
      .sort(([a], [b]) => (`${a}` < `${b}` ? -1 : 1)),
  );
}

/** What an image is known by, whatever its names are and however its layers are compressed. */
export function contentKey({ layers, config, platform }: Image): string {
  return hashOf([layers.map(({ diffId }) => diffId), config, platform]);
}

function hashOf(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify([version, value]))
    .digest('hex');
}

function portOf(word: string): string {
  if (!/^\d{1,5}(-\d{1,5})?(\/(tcp|udp))?$/.test(word)) {
    throw new CryoboxError('invalid_argument', `EXPOSE: ${JSON.stringify(word)} is no port`);
  }
  return word.includes('/') ? word : `${word}/tcp`;
}

function modeOf(step: Step, mode: string | undefined): number | undefined {
  if (mode === undefined) return undefined;
  if (/^[0-7]{3,4}$/.test(mode)) return Number.parseInt(mode, 8);
  throw badStep(step, 'should have an octal --chmod, such as 755');
}

function refuseAdd({ line }: Step, sources: readonly string[]): void {
  if (sources.some((source) => /^(https?|git|ssh):|^git@/.test(source))) {
    throw refused(
      `ADD of an address (line ${line})`,
      'Fetch it by a RUN, such as `RUN curl -fsSLO ADDRESS`.',
    );
  }
  if (sources.some((source) => /\.(tar|tgz|tbz2?|txz|tar\.\w+)$/.test(source))) {
    throw refused(`ADD of an archive (line ${line})`, 'COPY it, and unpack it by `RUN tar -xf`.');
  }
}
