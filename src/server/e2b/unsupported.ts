import { CryoboxError } from '../../errors.js';

/** Names of the fields that say something and that are not known; `{}`, `[]` and null say nothing. */
export function unknownOf(fields: object | null | undefined, known: ReadonlySet<string>): string[] {
  return Object.entries(fields ?? {})
    .filter(([name, value]) => isAsked(value) && !known.has(name))
    .map(([name]) => name);
}

/** Throws `unsupported` naming fields that are not known and say something: what is not there is never ignored. */
export function refuseOptions(fields: object, known: ReadonlySet<string>): void {
  refuseNames(unknownOf(fields, known));
}

/** Throws `unsupported` naming options, unless there are none. */
export function refuseNames(options: readonly string[]): void {
  if (options.length === 0) return;
  throw new CryoboxError('unsupported', `not supported: ${options.join(', ')}`, { details: { options } });
}

function isAsked(value: unknown): boolean {
  if (value === undefined || value === null) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}
