import type { CopyResult, Progress } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { formatBytes } from '../output/units.js';
import { flag, required } from '../specs.js';
import { requireBox } from '../targets.js';

/** One side of a copy: a path in a box, a path here, or `-` for a tar stream. */
type Place =
  | { readonly kind: 'box'; readonly box: string; readonly path: string }
  | { readonly kind: 'host'; readonly path: string }
  | { readonly kind: 'stream' };

interface CopyFlags {
  readonly overwrite: boolean;
  readonly followSymlinks: boolean;
  readonly quiet: boolean;
}

export const cp = createCommand({
  name: 'cp',
  summary: 'copy files between this host and a box',
  args: {
    from: required('from', 'PATH, BOX:PATH, or - for a tar stream on stdin'),
    to: required('to', 'PATH, BOX:PATH, or - for a tar stream on stdout'),
  },
  options: {
    overwrite: flag('--no-overwrite', 'fail where a file is there already'),
    archive: flag('-a, --archive', 'no effect: owner, mode and times are always kept'),
    quiet: flag('-q, --quiet', 'do not say what was copied'),
    followSymlinks: flag('-L, --follow-symlinks', 'copy what symbolic links point at'),
  },
  async handler(context, { from, to }, flags) {
    const source = parsePlace(from);
    const target = parsePlace(to);
    if (target.kind === 'box' && source.kind !== 'box') await copyIn(context, source, target, flags);
    else if (source.kind === 'box' && target.kind !== 'box') await copyOut(context, source, target, flags);
    else {
      throw new CryoboxError('invalid_argument', `cp copies between this host and a box: ${from} to ${to}`, {
        hint: 'Write exactly one side as BOX:PATH.',
      });
    }
  },
});

/** `BOX:PATH`, unless a slash stands before the colon: then it is a path here, as `./a:b`. */
export function parsePlace(text: string): Place {
  if (text === '-') return { kind: 'stream' };
  const match = /^([^/:]+):(.*)$/s.exec(text);
  if (!match) return { kind: 'host', path: text };
  const [, box = '', path = ''] = match;
  if (!path.startsWith('/')) {
    throw new CryoboxError(
      'invalid_argument',
      `The path in a box must be absolute, got ${JSON.stringify(path)}`,
      {
        hint: 'Write BOX:/PATH; write a file here whose name holds a colon as ./NAME.',
      },
    );
  }
  return { kind: 'box', box, path };
}

async function copyIn(
  context: Context,
  source: Exclude<Place, { kind: 'box' }>,
  target: Extract<Place, { kind: 'box' }>,
  flags: CopyFlags,
): Promise<void> {
  const { files } = await requireBox(context, target.box);
  const { signal } = context;
  const result = await withProgress(context, flags, (onProgress) => {
    const { overwrite, followSymlinks } = flags;
    const options = { overwrite, followSymlinks, onProgress, signal };
    return source.kind === 'stream'
      ? files.unpack(target.path, context.streams.stdin, options)
      : files.copyIn(source.path, target.path, options);
  });
  if (!flags.quiet) await sayCopied(context, result);
}

async function copyOut(
  context: Context,
  source: Extract<Place, { kind: 'box' }>,
  target: Exclude<Place, { kind: 'box' }>,
  flags: CopyFlags,
): Promise<void> {
  const { files } = await requireBox(context, source.box);
  const { signal } = context;
  const { overwrite, followSymlinks } = flags;
  if (target.kind === 'stream') {
    await context.stdout.pipe(await files.pack(source.path, { followSymlinks, signal }));
    return;
  }
  const result = await withProgress(context, flags, (onProgress) =>
    files.copyOut(source.path, target.path, { overwrite, followSymlinks, onProgress, signal }),
  );
  if (!flags.quiet) await sayCopied(context, result);
}

/** Runs a copy with its progress shown, unless nothing is to be said. */
async function withProgress<T>(
  context: Context,
  { quiet }: CopyFlags,
  task: (onProgress: ((progress: Progress) => void) | undefined) => Promise<T>,
): Promise<T> {
  return quiet ? await task(undefined) : await context.withProgress(task);
}

async function sayCopied(context: Context, { entries, bytes }: CopyResult): Promise<void> {
  await context.stderr.line(
    `copied ${entries} ${entries === 1 ? 'entry' : 'entries'}, ${formatBytes(bytes)}`,
  );
}
