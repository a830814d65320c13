import { CryoboxError } from '../errors.js';

/** A server reads at most 16 KiB of headers, and there are others. */
const maxBytes = 12 * 1024;

/**
 * The environment given to an import, or the values given to a build, as the text of the header that carries it: JSON in
 * ASCII. `what` names it in errors. Throws `payload_too_large` over 12 KiB, on every runtime.
 */
export function importEnvText(env: Readonly<Record<string, string>>, what = 'env'): string {
  const asAscii = (character: string): string =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  const text = JSON.stringify(env).replaceAll(/[^ -~]/g, asAscii);
  if (text.length <= maxBytes) return text;
  throw new CryoboxError(
    'payload_too_large',
    `${what} has ${text.length} bytes as JSON, at most ${maxBytes} go`,
    {
      hint:
        what === 'env'
          ? 'Write long values into a file of the box after the import, or give them to exec.'
          : 'Write long values into a file of the context.',
      details: { limit: maxBytes },
    },
  );
}
