import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { ifExists, writeFileDurably } from '../../base/files.js';
import { Mutex } from '../../base/mutex.js';
import { CryoboxError } from '../../errors.js';
import { type Database, type SecretRow, secretsOf } from '../../store/index.js';
import type { HomePaths } from './home.js';

/** AES-256-GCM (NIST SP 800-38D): bytes of the key, of the nonce and of the tag. */
const cipher = 'aes-256-gcm';
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** Keeps values of secrets, encrypted by a key that lies beside the database. */
export class Vault {
  readonly #paths: HomePaths;
  readonly #making = new Mutex();
  #key: Buffer | undefined;

  constructor(paths: HomePaths) {
    this.#paths = paths;
  }

  /** Values of secrets of a box by their names, as rows to be stored. */
  async seal(boxId: string, values: ReadonlyMap<string, string>): Promise<SecretRow[]> {
    if (values.size === 0) return [];
    const key = await this.#requireKey(true);
    return [...values].map(([name, value]) => ({
      box_id: boxId,
      name,
      sealed: sealed(key, boxId, name, value),
    }));
  }

  /** Values of the secrets of a box by their names; those that cannot be read are left out. */
  async valuesOf(db: Database, boxId: string): Promise<Map<string, string>> {
    const rows = await secretsOf(db, boxId);
    if (rows.length === 0) return new Map();
    const key = await this.#requireKey(false);
    if (!key) return new Map();
    const opened = rows.map((row) => [row.name, unsealed(key, row)] as const);
    return new Map(opened.filter((entry): entry is [string, string] => entry[1] !== undefined));
  }

  /** Rows for another box with the same values. */
  async copyOf(db: Database, fromBoxId: string, toBoxId: string): Promise<SecretRow[]> {
    return await this.seal(toBoxId, await this.valuesOf(db, fromBoxId));
  }

  async #requireKey(make: true): Promise<Buffer>;
  async #requireKey(make: boolean): Promise<Buffer | undefined>;
  async #requireKey(make: boolean): Promise<Buffer | undefined> {
    this.#key ??= await this.#making.run(async () => {
      const path = this.#paths.secretsKey;
      const stored = await ifExists(readFile(path));
      if (stored?.length === keyBytes) return stored;
      if (stored) {
        throw new CryoboxError('config_error', `${path} has ${stored.length} bytes, expected ${keyBytes}`, {
          hint: 'Put back the file that was there, or remove it: secrets have to be set again then.',
        });
      }
      if (!make) return undefined;
      const fresh = randomBytes(keyBytes);
      await writeFileDurably(path, fresh, 0o600);
      return fresh;
    });
    return this.#key;
  }
}

function sealed(key: Buffer, boxId: string, name: string, value: string): string {
  const nonce = randomBytes(nonceBytes);
  const encrypting = createCipheriv(cipher, key, nonce, { authTagLength: tagBytes });
  // A row that was put under another box or name cannot be read there.
  encrypting.setAAD(Buffer.from(`${boxId}/${name}`));
  const text = Buffer.concat([encrypting.update(value, 'utf8'), encrypting.final()]);
  return Buffer.concat([nonce, encrypting.getAuthTag(), text]).toString('base64');
}

function unsealed(key: Buffer, { box_id, name, sealed }: SecretRow): string | undefined {
  const bytes = Buffer.from(sealed, 'base64');
  try {
    const decrypting = createDecipheriv(cipher, key, bytes.subarray(0, nonceBytes), {
      authTagLength: tagBytes,
    });
    decrypting.setAAD(Buffer.from(`${box_id}/${name}`));
    decrypting.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
    const text = bytes.subarray(nonceBytes + tagBytes);
    return Buffer.concat([decrypting.update(text), decrypting.final()]).toString('utf8');
  } catch {
    // Another key, or bytes that were changed: the secret has to be set again.
    return undefined;
  }
}
