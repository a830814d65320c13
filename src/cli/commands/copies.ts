import { CryoboxError } from '../../errors.js';
import { boxOptionSpecs, envFile as envFileSpec, fromPairs } from '../box-options.js';
import { createCommand } from '../command.js';
import { flag, optional, required, text, value } from '../specs.js';
import { requireBox } from '../targets.js';
import { parseCount } from '../values.js';

const box = required('box', 'name or id');

export const clone = createCommand({
  name: 'clone',
  summary: 'copy a box, sharing unchanged data, and print the id of the copy',
  args: { box, name: optional('name', 'name of the copy') },
  options: {
    fromSnapshot: text('--from-snapshot <name>', 'copy this snapshot (default: the box as it is)'),
    start: flag('--start', 'start the copy'),
    full: flag('--full', 'copy everything, share nothing'),
  },
  async handler(context, args, { fromSnapshot, start, full }) {
    const source = await requireBox(context, args.box);
    const copy = await source.clone(args.name, {
      fromSnapshot,
      startAfterClone: start,
      cow: !full,
      signal: context.signal,
    });
    await context.stdout.line(copy.id);
  },
});

export const exportBox = createCommand({
  name: 'export',
  summary: 'write a box to an archive and print its path',
  args: { box, destination: required('destination', 'file, directory, or - for stdout') },
  options: {
    compress: flag('--no-compress', 'write a plain tar'),
    level: value('--level <level>', 'zstd level, 1 to 19 (default: 3)', parseCount),
    metadata: flag('--no-metadata', 'leave out name, image and options of the box'),
    env: flag('--env', 'the environment the box was given too, in clear: it may hold passwords'),
    memory: flag('--memory', 'the memory of a running or paused box too, with all its programs hold in it'),
  },
  async handler(context, args, { compress, level, metadata, env, memory }) {
    const source = await requireBox(context, args.box);
    await context.withProgress(async (onProgress) => {
      const options = {
        compress,
        compressionLevel: level,
        includeMetadata: metadata,
        env,
        memory,
        onProgress,
        signal: context.signal,
      };
      if (args.destination === '-') await context.stdout.pipe(await source.exportStream(options));
      else await context.stdout.line(await source.export(args.destination, options));
    });
  },
});

export const importBox = createCommand({
  name: 'import',
  summary: 'make a box from an archive and print its id',
  args: { archive: required('archive', 'file, or - for stdin') },
  options: {
    name: text('--name <name>', 'name of the box (default: none)'),
    memory: flag('--memory', 'its memory too: only of an archive you trust as you trust a program'),
    disksOnly: flag('--disks-only', 'leave the memory in the archive out'),
    env: boxOptionSpecs.env,
    envFile: envFileSpec,
  },
  async handler(context, { archive }, { name, memory, disksOnly, env, envFile }) {
    if (memory && disksOnly)
      throw new CryoboxError('invalid_argument', '--memory and --disks-only exclude each other');
    const runtime = await context.runtime();
    const source = archive === '-' ? context.streams.stdin : archive;
    const made = await context.withProgress((onProgress) =>
      runtime.import(source, {
        name,
        memory: memory || (disksOnly ? false : undefined),
        env: fromPairs([...envFile.flat(), ...env]),
        onProgress,
        signal: context.signal,
      }),
    );
    await context.stdout.line(made.id);
    const { missingEnv } = await made.info({ signal: context.signal });
    if (missingEnv.length === 0) return;
    await context.stderr.line(
      `no value, for archives leave them out: ${missingEnv.map(printable).join(', ')}; import with -e or --env-file to give them`,
    );
  },
});

/** A name out of an archive may hold anything. */
const printable = (name: string): string => (/^\w+$/.test(name) ? name : JSON.stringify(name));
