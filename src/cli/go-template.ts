import { CryoboxError } from '../errors.js';

/**
 * Templates of Go's text/template, as container tools take them after `--format`: fields, pipes, `if`, `range`, `with`,
 * variables and the functions of {@link functions}. Fields are found whatever the case of their letters.
 */

/** Renders data; made by {@link parseTemplate}. */
export type Template = (data: unknown) => string;

interface Scope {
  readonly dot: unknown;
  readonly variables: ReadonlyMap<string, unknown>;
}

type Expression = (scope: Scope) => unknown;
type Node = (scope: Scope) => string;

/** Deeper blocks than a hand writes would only exhaust the stack. */
const maxDepth = 64;

const bad = (message: string): CryoboxError =>
  new CryoboxError('invalid_argument', `the template is wrong: ${message}`, {
    hint: "Write fields as in '{{.Name}}', and all of it with '{{json .}}'.",
  });

/** Parses a template. @throws {CryoboxError} `invalid_argument`; the template too, for a field that is not there */
export function parseTemplate(source: string): Template {
  const reader = new Reader(source.replaceAll('\\t', '\t').replaceAll('\\n', '\n'));
  const body = parseBlock(reader, 0);
  if (body.end !== undefined) throw bad(`{{${body.end}}} has no beginning`);
  return (data) => body.render({ dot: data, variables: new Map([['$', data]]) });
}

/** Pieces of a template: text, and what stands between braces. */
class Reader {
  readonly #pieces: { readonly action: boolean; readonly text: string }[] = [];

  constructor(source: string) {
    let rest = source;
    for (;;) {
      const open = rest.indexOf('{{');
      if (open < 0) break;
      const close = rest.indexOf('}}', open);
      if (close < 0) throw bad('"{{" has no "}}"');
      const inner = rest.slice(open + 2, close);
      const before = rest.slice(0, open);
      this.#pieces.push({ action: false, text: inner.startsWith('- ') ? before.trimEnd() : before });
      this.#pieces.push({ action: true, text: inner.replace(/^- /, '').replace(/ -$/, '').trim() });
      rest = rest.slice(close + 2);
      if (inner.endsWith(' -')) rest = rest.trimStart();
    }
    this.#pieces.push({ action: false, text: rest });
    this.#pieces.reverse();
  }

  next(): { readonly action: boolean; readonly text: string } | undefined {
    return this.#pieces.pop();
  }
}

interface Block {
  readonly render: Node;
  /** The action that ended it, unless the template did. */
  readonly end: string | undefined;
}

function parseBlock(reader: Reader, depth: number): Block {
  if (depth > maxDepth) throw bad(`blocks are nested more than ${maxDepth} deep`);
  const nodes: Node[] = [];
  let end: string | undefined;
  for (let piece = reader.next(); piece; piece = reader.next()) {
    const { action, text } = piece;
    if (!action) nodes.push(() => text);
    else if (text === 'end' || text.startsWith('else')) {
      end = text;
      break;
    } else if (!text.startsWith('/*')) nodes.push(parseAction(reader, text, depth));
  }
  return { render: (scope) => nodes.map((node) => node(scope)).join(''), end };
}

function parseAction(reader: Reader, text: string, depth: number): Node {
  const [, word, argument = ''] = /^(if|with|range)\s+(.*)$/s.exec(text) ?? [];
  if (word === undefined) {
    const value = parsePipeline(text);
    return (scope) => shown(value(scope));
  }
  const [names, source] = declared(argument);
  const value = parsePipeline(source);
  const body = parseBlock(reader, depth + 1);
  const otherwise = parseElse(reader, body.end, depth + 1);
  if (word === 'if') return (scope) => (truth(value(scope)) ? body.render(scope) : otherwise(scope));
  return (scope) => {
    const found = value(scope);
    if (!truth(found)) return otherwise(scope);
    if (word === 'with') return body.render(within(scope, names, undefined, found));
    const entries = isList(found) ? [...found.entries()] : Object.entries(asRecord(found));
    return entries.map(([key, item]) => body.render(within(scope, names, key, item))).join('');
  };
}

/** What stands between `else` and `end`, and `else if` as a block of its own. */
function parseElse(reader: Reader, end: string | undefined, depth: number): Node {
  if (end === undefined) throw bad('a block has no {{end}}');
  if (end === 'end') return () => '';
  if (end !== 'else') return parseAction(reader, end.replace(/^else\s+/, ''), depth);
  const body = parseBlock(reader, depth);
  if (body.end !== 'end') throw bad('{{else}} has no {{end}}');
  return body.render;
}

/** Names before `:=`, and the rest. */
function declared(text: string): readonly [names: readonly string[], source: string] {
  const match = /^(\$\w+)(?:\s*,\s*(\$\w+))?\s*:=\s*(.*)$/s.exec(text);
  if (!match) return [[], text];
  const [, first = '', second, source = ''] = match;
  return [second === undefined ? [first] : [first, second], source];
}

function within(scope: Scope, names: readonly string[], key: unknown, item: unknown): Scope {
  const variables = new Map(scope.variables);
  const values = names.length === 2 ? [key, item] : [item];
  for (const [at, name] of names.entries()) variables.set(name, values[at]);
  return { dot: item, variables };
}

const tokenPattern = /\s*("(?:[^"\\]|\\.)*"|`[^`]*`|[()|]|[^\s()|"`]+)/gy;

function parsePipeline(text: string): Expression {
  const tokens: string[] = [];
  tokenPattern.lastIndex = 0;
  let at = 0;
  for (let match = tokenPattern.exec(text); match; match = tokenPattern.exec(text)) {
    tokens.push(match[1] ?? '');
    at = tokenPattern.lastIndex;
  }
  if (text.slice(at).trim() !== '') throw bad(`it cannot be read from ${JSON.stringify(text.slice(at))} on`);
  tokens.reverse();
  const value = pipeline(tokens, 0);
  if (tokens.length > 0) throw bad(`${JSON.stringify(tokens.at(-1))} is not expected`);
  return value;
}

/** Reads commands joined by pipes off the end of `tokens`. */
function pipeline(tokens: string[], depth: number): Expression {
  if (depth > maxDepth) throw bad(`it is nested more than ${maxDepth} deep`);
  let value: Expression | undefined;
  do {
    const words: (string | Expression)[] = [];
    for (
      let token = tokens.at(-1);
      token !== undefined && token !== '|' && token !== ')';
      token = tokens.at(-1)
    ) {
      tokens.pop();
      if (token === '(') {
        words.push(pipeline(tokens, depth + 1));
        if (tokens.pop() !== ')') throw bad('"(" has no ")"');
      } else words.push(token);
    }
    value = command(words, value);
  } while (tokens.at(-1) === '|' && tokens.pop());
  return value;
}

function command(words: readonly (string | Expression)[], piped: Expression | undefined): Expression {
  const [first, ...more] = words;
  if (first === undefined) throw bad('an action is empty');
  const name =
    typeof first === 'string' && /^[a-z]\w*$/.test(first) && !literals.has(first) ? first : undefined;
  if (name === undefined) {
    if (more.length > 0 || piped) throw bad(`${JSON.stringify(first)} is no function`);
    return operand(first);
  }
  const call = functions[name];
  if (!call) throw bad(`there is no function ${name}; there are ${Object.keys(functions).join(', ')}`);
  const args = [...more.map(operand), ...(piped ? [piped] : [])];
  return (scope) => call(...args.map((arg) => arg(scope)));
}

const literals = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['nil', null],
]);

function operand(word: string | Expression): Expression {
  if (typeof word !== 'string') return word;
  if (literals.has(word)) return () => literals.get(word);
  if (word.startsWith('"')) {
    try {
      const text: unknown = JSON.parse(word);
      return () => text;
    } catch {
      throw bad(`${word} is no text`);
    }
  }
  if (word.startsWith('`')) return () => word.slice(1, -1);
  if (/^-?\d+(\.\d+)?$/.test(word)) return () => Number(word);
  const [, root, path] = /^(\$\w*|)((?:\.\w+)*|\.)$/.exec(word) ?? [];
  if (root === undefined || path === undefined || word === '')
    throw bad(`${JSON.stringify(word)} is no field`);
  const names = path.split('.').filter((name) => name !== '');
  return (scope) => {
    if (root !== '' && !scope.variables.has(root)) throw bad(`there is no variable ${root}`);
    const from = root === '' ? scope.dot : scope.variables.get(root);
    return names.reduce(fieldOf, from);
  };
}

function fieldOf(from: unknown, name: string): unknown {
  if (from === null || from === undefined) return undefined;
  const record = asRecord(from);
  if (Object.hasOwn(record, name)) return record[name];
  const wanted = name.toLowerCase();
  const key = Object.keys(record).find((candidate) => candidate.toLowerCase() === wanted);
  if (key !== undefined) return record[key];
  throw bad(`there is no field ${name}; there are ${Object.keys(record).join(', ')}`);
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || value instanceof Date)
    throw bad(`${shown(value)} has no fields`);
  return value as Readonly<Record<string, unknown>>;
}

function truth(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || value instanceof Date) return Boolean(value);
  return Object.keys(value).length > 0;
}

/** A value as Go prints it: lists in brackets, maps as `map[key:value]`. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (value instanceof Date) return value.toISOString();
  if (isList(value)) return `[${value.map(shown).join(' ')}]`;
  if (typeof value !== 'object') return String(value);
  const pairs = Object.entries(value).map(([key, item]) => `${key}:${shown(item)}`);
  return `map[${pairs.join(' ')}]`;
}

function at(from: unknown, key: unknown): unknown {
  if (isList(from)) return from[Number(key)];
  return asRecord(from)[String(key)];
}

function format(pattern: unknown, ...values: readonly unknown[]): string {
  let next = 0;
  return String(pattern).replace(/%([-\d.]*)([sdvqfx%])/g, (_, width: string, verb: string) => {
    if (verb === '%') return '%';
    const value = values[next++];
    const text = verb === 'q' ? JSON.stringify(shown(value)) : shown(value);
    const columns = Number.parseInt(width.replace('-', ''), 10) || 0;
    return width.startsWith('-') ? text.padEnd(columns) : text.padStart(columns);
  });
}

const functions: Readonly<Record<string, (...args: readonly unknown[]) => unknown>> = {
  json: (value) => JSON.stringify(value ?? null),
  index: (from, ...keys) => keys.reduce(at, from),
  len: (value) => (typeof value === 'string' ? value.length : Object.keys(asRecord(value)).length),
  join: (list, between) => (isList(list) ? list.map(shown) : [shown(list)]).join(String(between ?? '')),
  split: (value, between) => shown(value).split(String(between)),
  lower: (value) => shown(value).toLowerCase(),
  upper: (value) => shown(value).toUpperCase(),
  title: (value) => shown(value).replace(/\b\w/g, (letter) => letter.toUpperCase()),
  truncate: (value, length) => shown(value).slice(0, Number(length)),
  print: (...values) => values.map(shown).join(''),
  println: (...values) => `${values.map(shown).join(' ')}\n`,
  printf: format,
  not: (value) => !truth(value),
  and: (...values) => values.find((value) => !truth(value)) ?? values.at(-1),
  or: (...values) => values.find(truth) ?? values.at(-1),
  eq: (left, ...rights) => rights.some((right) => shown(left) === shown(right)),
  ne: (left, right) => shown(left) !== shown(right),
};
