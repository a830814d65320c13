/** How much a JSON text may hold. */
export interface JsonBounds {
  /** Values, those in values included. Checking one by a schema costs about a microsecond, and ten if it is wrong. */
  readonly maxValues: number;
  /** Values in values. Beyond some thousands, whatever walks them runs out of stack. @default 64 */
  readonly maxDepth?: number;
}

const defaultMaxDepth = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

function isOpening(code: number): boolean {
  return code === 0x5b || code === 0x7b;
}

function isClosing(code: number): boolean {
  return code === 0x5d || code === 0x7d;
}

/** Where the string that begins at `from` ends. */
function endOfString(text: string, from: number): number {
  for (let end = text.indexOf('"', from + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let before = end - 1;
    while (text.charCodeAt(before) === BACKSLASH) before -= 1;
    if ((end - before) % 2 === 1) return end;
  }
  return text.length;
}

/** Throws `SyntaxError` for a text with more values, or deeper ones, than allowed. It need not be JSON. */
export function checkJson(text: string, { maxValues, maxDepth = defaultMaxDepth }: JsonBounds): void {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at);
    } else if (code === COMMA) {
      values += 1;
    } else if (isOpening(code)) {
      depth += 1;
      values += 1;
    } else if (isClosing(code)) {
      depth -= 1;
    } else {
      continue;
    }
    if (depth > maxDepth) throw new SyntaxError(`it nests values more than ${maxDepth} deep`);
    if (values > maxValues) throw new SyntaxError(`it holds more than ${maxValues} values`);
  }
}

/** Parses JSON that somebody else made. Throws `SyntaxError`, also for more values, or deeper ones, than allowed. */
export function parseJson(text: string, bounds: JsonBounds): unknown {
  checkJson(text, bounds);
  return JSON.parse(text) as unknown;
}
