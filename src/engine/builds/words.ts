/** Words of a Dockerfile's instructions, and the variables in them (Dockerfile reference, "Environment replacement"). */
import { CryoboxError } from '../../errors.js';

/** Values of variables. */
export type Variables = Readonly<Record<string, string>>;

/**
 * Splits a text at its blanks; quotes keep blanks, a backslash keeps the next character. Variables are put in, but between
 * single quotes. Throws `invalid_argument` for an open quote or brace, `unsupported` for a form of `${}` that is not known.
 */
export function wordsOf(text: string, variables: Variables): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i] ?? '';
    if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word ??= '';
    if (char === quote) quote = '';
    else if (quote === '' && (char === '"' || char === "'")) quote = char;
    else if (char === '\\' && quote !== "'") {
      const next = text[i + 1];
      const isEscape = next !== undefined && (quote === '' || next === '"' || next === '$' || next === '\\');
      word += isEscape ? next : char;
      if (isEscape) i += 1;
    } else if (char === '$' && quote !== "'") {
      const { value, end } = variableAt(text, i, variables);
      word += value;
      i = end - 1;
    } else word += char;
  }
  if (quote !== '') throw new CryoboxError('invalid_argument', `a quote ${quote} is not closed in: ${text}`);
  if (word !== undefined) words.push(word);
  return words;
}

/** A text with its variables put in; blanks and quotes stay. Throws as {@link wordsOf}. */
export function expand(text: string, variables: Variables): string {
  let result = '';
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i] ?? '';
    if (char === '\\' && text[i + 1] === '$') {
      result += '$';
      i += 1;
    } else if (char === '$') {
      const { value, end } = variableAt(text, i, variables);
      result += value;
      i = end - 1;
    } else result += char;
  }
  return result;
}

const plainName = /^\$([A-Za-z_][A-Za-z0-9_]*)/;
const bracedName = /^\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^{}]*))?\}/;

function variableAt(
  text: string,
  at: number,
  variables: Variables,
): { readonly value: string; readonly end: number } {
  const rest = text.slice(at);
  const plain = plainName.exec(rest);
  if (plain) return { value: variables[plain[1] ?? ''] ?? '', end: at + plain[0].length };
  if (rest[1] !== '{') return { value: '$', end: at + 1 };
  const braced = bracedName.exec(rest);
  if (!braced) {
    throw new CryoboxError('unsupported', `this form of a variable is not known: ${rest.slice(0, 60)}`, {
      hint: 'Use $NAME, or in braces NAME, NAME:-word or NAME:+word.',
    });
  }
  const [whole, name = '', form, word = ''] = braced;
  const value = variables[name] ?? '';
  const other = (): string => expand(word, variables);
  const end = at + whole.length;
  if (form === ':-') return { value: value === '' ? other() : value, end };
  if (form === ':+') return { value: value === '' ? '' : other(), end };
  return { value, end };
}

/** `NAME=value` pairs, or one `NAME value` as ENV and LABEL also take it. Throws `invalid_argument`, as {@link wordsOf}. */
export function pairsOf(text: string, variables: Variables): [name: string, value: string][] {
  const first = /^(\S+)/.exec(text)?.[1] ?? '';
  if (!first.includes('=')) {
    const name = wordsOf(first, variables)[0] ?? '';
    const value = expand(text.slice(first.length).trim(), variables);
    if (name === '' || value === '') throw noPair(text);
    return [[name, value]];
  }
  return wordsOf(text, variables).map((word) => {
    const equals = word.indexOf('=');
    if (equals < 1) throw noPair(word);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

function noPair(text: string): CryoboxError {
  return new CryoboxError('invalid_argument', `expected NAME=value, got: ${text}`);
}
