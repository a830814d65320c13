import type { ArgumentSpec, OptionSpec } from './command.js';
import { oneOf } from './values.js';

/** An option without a value; `--no-x` flags are true unless given. */
export function flag(flags: string, summary: string): OptionSpec<boolean> {
  return { flags, summary, initial: flags.startsWith('--no-') };
}

/** An option whose text is its value. */
export function text(flags: string, summary: string): OptionSpec<string | undefined> {
  return { flags, summary, initial: undefined };
}

/** An option whose text is parsed. */
export function value<T>(
  flags: string,
  summary: string,
  parse: (text: string) => T,
): OptionSpec<T | undefined> {
  return { flags, summary, initial: undefined, parse };
}

/** An option that may be given several times. */
export function many<T>(
  flags: string,
  summary: string,
  parse: (text: string) => T,
): OptionSpec<readonly T[]> {
  return { flags, summary, initial: [], parse: (item, earlier) => [...earlier, parse(item)] };
}

/** An argument that must be given. */
export function required(name: string, summary: string): ArgumentSpec<string> {
  return { syntax: `<${name}>`, summary };
}

/** An argument that may be left out. */
export function optional(name: string, summary: string): ArgumentSpec<string | undefined> {
  return { syntax: `[${name}]`, summary };
}

/** All further arguments, at least one. */
export function several(name: string, summary: string): ArgumentSpec<readonly string[]> {
  return { syntax: `<${name}...>`, summary };
}

/** All further arguments, possibly none. */
export function rest(name: string, summary: string): ArgumentSpec<readonly string[]> {
  return { syntax: `[${name}...]`, summary };
}

/** How a listing is printed. */
export type Format = 'table' | 'json';

/** The `--format` option of everything that prints data. */
export const format: OptionSpec<Format> = {
  flags: '--format <format>',
  summary: 'table or json',
  initial: 'table',
  parse: oneOf('table', 'json'),
};

/** A command after the box's or image's name, without the `--` that may stand before it. */
export function commandLine(words: readonly string[]): readonly string[] {
  return words[0] === '--' ? words.slice(1) : words;
}
