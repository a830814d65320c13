import { randomBytes } from 'node:crypto';
import { link, open, readFile, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ifExists, syncDirectory } from '../../base/files.js';
import { CryoboxError, errnoOf } from '../../errors.js';

/** What the marker says. A home of a release that knows more than this one has a higher format. */
const mark = { kind: 'cryobox-home', format: 1 } as const;
/** The mark has a hundred bytes; somebody else's file of that name may have any number. */
const maxMarkBytes = 4096;
/** The marker in the making; a crash leaves it. */
const unfinishedMark = /^cryobox\.json\.[0-9a-f]{8}\.tmp$/;

/** Whether a name is that of a marker in the making, which a crash leaves. */
export function isUnfinishedMark(name: string): boolean {
  return unfinishedMark.test(name);
}

/** Whether a file is the marker of a home. Throws `config_error` for one of a newer release. */
export async function isMarked(path: string): Promise<boolean> {
  const facts = await ifExists(stat(path));
  if (!facts?.isFile() || facts.size > maxMarkBytes) return false;
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
  const { kind, format } = Object(content) as { kind?: unknown; format?: unknown };
  if (kind !== mark.kind) return false;
  if (format === mark.format) return true;
  throw new CryoboxError(
    'config_error',
    `${dirname(path)} is a home of format ${JSON.stringify(format)}, and this release knows format ${mark.format}`,
    { hint: 'Use the release that made the home, or a newer one.' },
  );
}

/**
 * Makes the marker of a home. A hard link puts it in place whole, and proves that the file system has them: machines
 * need them. Throws Node's errors.
 */
export async function writeMark(path: string): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(mark)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(temporary, path).catch((error: unknown) => {
      // Somebody else makes the same home.
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
}
