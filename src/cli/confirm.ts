import { createInterface } from 'node:readline/promises';
import { CryoboxError } from '../errors.js';
import type { Context } from './context.js';

/**
 * Asks before something is removed for good; true: go on. @throws {CryoboxError} `invalid_argument` where nobody can be
 * asked, since stdin is no terminal
 */
export async function confirm(context: Context, what: string): Promise<boolean> {
  const { stdin, stderr } = context.streams;
  if (!stdin.isTTY) {
    throw new CryoboxError('invalid_argument', `${what}: nobody can be asked, since stdin is no terminal`, {
      hint: 'Add --force to go on without being asked.',
    });
  }
  const lines = createInterface({ input: stdin, output: stderr });
  try {
    const answer = await lines.question(`${what}. Go on? [y/N] `, { signal: context.signal });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
