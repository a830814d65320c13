import { CryoboxError } from '../../errors.js';

/** As file names go (NAME_MAX of limits.h), so that an export of a snapshot can be called after it. */
const maxNameBytes = 255;

/** Throws `invalid_argument` unless a name is one a snapshot may have: 1 to 255 bytes, no leading dot, no `/`, `\` or NUL. */
export function checkSnapshotName(name: string): void {
  const problem = problemOf(name);
  if (problem)
    throw new CryoboxError('invalid_argument', problem, { details: { name: name.slice(0, maxNameBytes) } });
}

function problemOf(name: string): string | undefined {
  if (typeof name !== 'string' || name === '') return 'Snapshot name cannot be empty';
  const bytes = Buffer.byteLength(name);
  if (bytes > maxNameBytes) return `Snapshot name too long (${bytes} bytes, max ${maxNameBytes})`;
  if (name.startsWith('.')) return "Snapshot name cannot start with '.'";
  if (/[/\\\0]/.test(name)) return 'Snapshot name contains invalid characters (/, \\, or null byte)';
  return undefined;
}
