import { CryoboxError } from '../errors.js';

/** Every option of a call; the type makes sure that none is forgotten. */
export type OptionNames<O> = Readonly<Record<keyof Required<O>, true>>;

/** What people write who think of another unit or spelling. */
const plain = (name: string): string => name.toLowerCase().replace(/[_-]/g, '');

/** What an unknown option of a new box is refused with; that of other calls with `invalid_argument`. */
const isNewBox = (what: string): boolean => what === 'runtime.create' || what === 'runtime.getOrCreate';

/**
 * Throws `invalid_argument` (for a new box `unsupported`) unless `options` is absent or an object that holds only options of the call `what`: a limit
 * that is misspelt would be no limit.
 */
export function checkOptions(what: string, options: unknown, known: Readonly<Record<string, true>>): void {
  if (options === undefined) return;
  const names = Object.keys(known);
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    const got = Array.isArray(options) ? 'a list' : JSON.stringify(options);
    throw new CryoboxError('invalid_argument', `${what}: options must be an object, got ${got}`, {
      hint: `Write an object with any of ${names.join(', ')}.`,
    });
  }
  for (const [name, value] of Object.entries(options)) {
    if (Object.hasOwn(known, name) || value === undefined) continue;
    const meant = names.find((it) => plain(it).startsWith(plain(name)) || plain(name).startsWith(plain(it)));
    const guess = meant === undefined ? '' : `; did you mean ${JSON.stringify(meant)}?`;
    const more = {
      hint: meant === undefined ? `There are ${names.join(', ')}.` : `Write ${meant}.`,
      details: { options: [name] },
    };
    if (isNewBox(what)) throw new CryoboxError('unsupported', `not supported: ${name}${guess}`, more);
    const message = `${what}: there is no option ${JSON.stringify(name)}${guess}`;
    throw new CryoboxError('invalid_argument', message, more);
  }
}
