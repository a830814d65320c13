import { CryoboxError } from '../errors.js';
import type { ArgumentSpec, OptionSpec } from './command.js';
import { parseTemplate, type Template } from './go-template.js';
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

/** A template in Go's words, as container tools take it, such as `{{.Name}}`. */
export interface TemplateFormat {
  readonly render: Template;
  /** Headers of its columns, when it was asked for as a table. */
  readonly headers: readonly string[] | undefined;
}

/** How data is printed. */
export type Format = 'table' | 'json' | TemplateFormat;

const plainFormat = oneOf('table', 'json');

/** The `--format` option of everything that prints data. */
export const format: OptionSpec<Format> = {
  flags: '--format <format>',
  summary: "table, json, or a template such as '{{.Name}}'",
  initial: 'table',
  parse: (text) => {
    if (!text.includes('{{')) return plainFormat(text);
    const asTable = text.startsWith('table ');
    const source = asTable ? text.slice('table '.length) : text;
    return { render: parseTemplate(source), headers: asTable ? headersOf(source) : undefined };
  },
};

/** The `--no-trunc` option of tables with ids: false when it is given. */
export const trunc = flag('--no-trunc', 'whole ids in tables');

/** `{{.Name}}` is headed NAME. */
function headersOf(source: string): readonly string[] {
  const plain = source.replace(/\{\{[^}]*\}\}/g, (action) =>
    (/\.(\w+)[^.]*$/.exec(action)?.[1] ?? '').toUpperCase(),
  );
  return plain.replaceAll('\\t', '\t').split('\t');
}

/**
 * Options stand before the name; what stands behind it is the command. @throws {CryoboxError} `invalid_argument` for a
 * command that begins with a hyphen and has no `--` before it
 */
export function refuseOptionWord(words: readonly string[], name: string, kind: 'box' | 'image'): void {
  const [word] = words;
  if (word === undefined || word === '--' || !word.startsWith('-')) return;
  const said = ['cryobox', kind === 'box' ? 'exec' : 'run', word, name, ...words.slice(1)].join(' ');
  throw new CryoboxError('invalid_argument', `${word} stands after the ${kind}, where the command begins`, {
    hint: `Options come first: \`${said}\`. A command that begins with a hyphen comes after \`--\`.`,
  });
}

/** A command after the box's or image's name, without the `--` that may stand before it. */
export function commandLine(words: readonly string[]): readonly string[] {
  return words[0] === '--' ? words.slice(1) : words;
}
