import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { CryoboxError, errnoOf, messageOf } from '../errors.js';

/** Real files have a few hundred bytes. */
const maxFileBytes = 1024 * 1024;

const fileSchema = z.strictObject({ templates: z.record(z.string(), z.string()) });

/**
 * Reads which images and templates of the home stand in for templates that E2B's clients name, from a JSON file such as
 * `{"templates": {"base": "debian-python"}}`. A file that does not exist holds none. Throws `config_error` when it cannot be
 * read or has anything else in it.
 */
export async function readStandIns(file: string): Promise<Readonly<Record<string, string>>> {
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes) throw new Error(`it has ${size} bytes; at most ${maxFileBytes} are read`);
    return fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))).templates;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new CryoboxError('config_error', `cannot use the stand-ins of templates in ${file}: ${reason}`, {
      cause: error,
      hint: 'Correct the file, or remove it.',
    });
  }
}
