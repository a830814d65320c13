import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { CryoboxError, errnoOf, messageOf } from '../errors.js';
import type { RegistrySettings } from './settings.js';

/** Real files have a few hundred bytes. */
const maxFileBytes = 1024 * 1024;

const fileSchema = z.record(
  z.string(),
  z.strictObject({
    mirrors: z.array(z.string()).optional(),
    plainHttp: z.boolean().optional(),
    caFile: z.string().optional(),
    ca: z.string().optional(),
    skipVerify: z.boolean().optional(),
  }),
);

/**
 * Reads settings by registry, as references name it, from a JSON file such as
 * `{"host:5000": {"caFile": "/etc/ssl/host.pem", "mirrors": ["https://mirror.host"]}}`. A file that does not exist holds
 * none. Throws `config_error` when it cannot be read or has anything else in it.
 */
export async function readRegistrySettings(
  file: string,
): Promise<Readonly<Record<string, RegistrySettings>>> {
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes) throw new Error(`it has ${size} bytes; at most ${maxFileBytes} are read`);
    return fileSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new CryoboxError('config_error', `cannot use the registries' settings in ${file}: ${reason}`, {
      cause: error,
      hint: 'Correct the file, or remove it.',
    });
  }
}
