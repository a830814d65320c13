import { CryoboxError } from '../errors.js';

/** A server reads at most 16 KiB of headers, and there are others. */
const maxBytes = 12 * 1024;

/**
 * The environment given to an import as the text of the header that carries it: JSON in ASCII. Throws `payload_too_large`
 * over 12 KiB, on every runtime.
 */
export function importEnvText(env: Readonly<Record<string, string>>): string {
  const asAscii = (character: string): string =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  const text = JSON.stringify(env).replaceAll(/[^ -~]/g, asAscii);
  if (text.length <= maxBytes) return text;
  throw new CryoboxError(
    'payload_too_large',
    `env has ${text.length} bytes as JSON, at most ${maxBytes} go`,
    {
      hint: 'Write long values into a file of the box after the import, or give them to exec.',
      details: { limit: maxBytes },
    },
  );
}
