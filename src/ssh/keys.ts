import { chmod, link, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import ssh2 from 'ssh2';
import { ifExists } from '../base/files.js';
import { CryoboxError, errnoOf, wrapHostError } from '../errors.js';

/** A key: the private one as OpenSSH writes it, and the public one as a line of `authorized_keys`. */
export interface KeyPair {
  readonly privateKey: string;
  readonly publicKey: string;
}

/**
 * The Ed25519 key in a file of mode 0600, which is made when it is not there; two that make it at once get the same.
 * `comment` stands in a new one. Throws `config_error` for a file that others can read, or that holds no key.
 */
export async function keepKey(path: string, comment: string): Promise<KeyPair> {
  try {
    const kept = (await ifExists(readFile(path, 'utf8'))) ?? (await makeKey(path, comment));
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new CryoboxError('config_error', `others than its owner may use the key ${path}`, {
        hint: `Remove it, so that a new one is made, or run \`chmod 600 ${path}\`.`,
      });
    }
    const key = ssh2.utils.parseKey(kept);
    if (key instanceof Error || !key.isPrivateKey()) {
      throw new CryoboxError('config_error', `${path} is no private key`, {
        hint: 'Remove it: a new one is made.',
      });
    }
    return { privateKey: kept, publicKey: `${key.type} ${key.getPublicSSH().toString('base64')}` };
  } catch (error) {
    throw wrapHostError(error, `the key ${path}`, 'config_error');
  }
}

async function makeKey(path: string, comment: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const made = ssh2.utils.generateKeyPairSync('ed25519', { comment }).private;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, made, { mode: 0o600 });
    await chmod(temporary, 0o600);
    // The first one stays: a second would no longer fit what clients know.
    await link(temporary, path);
    return made;
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    return await readFile(path, 'utf8');
  } finally {
    await rm(temporary, { force: true });
  }
}
