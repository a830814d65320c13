import { imageRecipes, type Progress, type PullResult } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { printOne } from '../listing.js';
import { printable } from '../output/printable.js';
import { formatBytes } from '../output/units.js';
import { type Format, flag, format, many, optional, text, value } from '../specs.js';
import { oneOf, parseCount, parseEnvironment, parseList, parseMemoryMiB } from '../values.js';

export const build = createCommand({
  name: 'build',
  summary: 'build an image from Debian packages, or by the steps of a Dockerfile',
  args: {
    what: optional('name', 'name of the new image; with --tag: the directory that COPY takes from'),
  },
  options: {
    recipe: value(
      '--recipe <name>',
      `what is in it: ${imageRecipes.join(', ')} (default: the image's name, where that is one)`,
      oneOf(...imageRecipes),
    ),
    suite: text('--from-debian <suite>', 'Debian suite (default: that of the recipe, else bookworm)'),
    packages: many('--packages <names>', 'packages beside these, separated by commas', parseList),
    tag: text('-t, --tag <name>', 'name of the new image, which is built by a Dockerfile'),
    file: text('-f, --file <path>', 'the Dockerfile (default: Dockerfile in the directory)'),
    buildArg: many('--build-arg <KEY=VALUE>', 'value of an ARG; KEY alone takes ours', parseEnvironment),
    target: text('--target <stage>', 'the stage that is built (default: the last one)'),
    cache: flag('--no-cache', 'run every step, whatever is known of earlier builds'),
    cpus: value('--cpus <count>', 'processors of the boxes that steps run in (default: 1)', parseCount),
    memory: value('-m, --memory <size>', 'their memory, such as 2g (default: 1g)', parseMemoryMiB),
    format,
  },
  async handler(context, { what }, options) {
    const { tag, file, format } = options;
    const bySteps = tag !== undefined || file !== undefined;
    const result = bySteps
      ? await fromSteps(context, what, options)
      : await fromDebian(context, what, options);
    await printPulled(context, format, result);
  },
});

interface StepOptions {
  readonly tag: string | undefined;
  readonly file: string | undefined;
  readonly buildArg: readonly (readonly [string, string])[];
  readonly target: string | undefined;
  readonly cache: boolean;
  readonly cpus: number | undefined;
  readonly memory: number | undefined;
}

interface DebianOptions extends Pick<StepOptions, 'buildArg' | 'target' | 'cpus' | 'memory' | 'cache'> {
  readonly recipe: (typeof imageRecipes)[number] | undefined;
  readonly suite: string | undefined;
  readonly packages: readonly (readonly string[])[];
}

async function fromSteps(
  context: Context,
  directory: string | undefined,
  options: StepOptions & DebianOptions,
): Promise<PullResult> {
  const { tag, file, buildArg, target, cache, cpus, memory } = options;
  if (tag === undefined) {
    throw new CryoboxError('invalid_argument', 'the new image has no name', {
      hint: 'Give one: `--tag NAME`.',
    });
  }
  const { recipe, suite, packages } = options;
  const { images } = await context.runtime();
  const { stderr } = context;
  let last = Promise.resolve();
  const onProgress = ({ stage, item = '' }: Progress): void => {
    if (stage !== 'step' && stage !== 'output') return;
    last = stderr.line(printable(stage === 'step' ? item : `  ${item}`));
  };
  const result = await images.build(tag, {
    context: directory ?? '.',
    dockerfile: file,
    buildArgs: buildArg.length > 0 ? Object.fromEntries(buildArg) : undefined,
    target,
    noCache: !cache,
    cpus,
    memoryMiB: memory,
    // Refused together with the others, by name.
    ...(recipe !== undefined && { recipe }),
    ...(suite !== undefined && { fromDebian: suite }),
    ...(packages.length > 0 && { packages: packages.flat() }),
    onProgress,
    signal: context.signal,
  });
  await last;
  return result;
}

async function fromDebian(
  context: Context,
  name: string | undefined,
  { recipe: given, suite, packages, ...steps }: DebianOptions,
): Promise<PullResult> {
  if (name === undefined) {
    throw new CryoboxError('invalid_argument', 'the new image has no name', {
      hint: 'Write `cryobox images build NAME --packages PACKAGES`, or `cryobox images build -t NAME DIRECTORY`.',
    });
  }
  const isPlain = suite === undefined && packages.length === 0;
  const recipe = given ?? (isPlain ? imageRecipes.find((each) => each === name) : undefined);
  const { images } = await context.runtime();
  return await context.withProgress((onProgress) =>
    images.build(name, {
      recipe,
      fromDebian: suite ?? (recipe ? undefined : 'bookworm'),
      packages: packages.flat(),
      ...stepOptions(steps),
      onProgress,
      signal: context.signal,
    }),
  );
}

/** Those that only a Dockerfile takes: refused by name. */
function stepOptions({
  buildArg,
  target,
  cpus,
  memory,
  cache,
}: Omit<DebianOptions, 'recipe' | 'suite' | 'packages'>) {
  return {
    ...(buildArg.length > 0 && { buildArgs: Object.fromEntries(buildArg) }),
    ...(target !== undefined && { target }),
    ...(cpus !== undefined && { cpus }),
    ...(memory !== undefined && { memoryMiB: memory }),
    ...(!cache && { noCache: true }),
  };
}

/** Prints what a build, an import or a pull brought. */
export async function printPulled(context: Context, format: Format, result: PullResult): Promise<void> {
  await printOne(context, format, result, (it) => ({
    reference: it.reference,
    id: it.configDigest,
    manifest: it.manifestDigest,
    layers: it.layerCount,
    size: formatBytes(it.sizeBytes),
  }));
}
