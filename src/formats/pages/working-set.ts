/**
 * The working set file, version 1: the pages a machine asked for after a lazy resume, in the order of the first
 * requests. Little-endian: magic `CBWRKSET`, u32 version, u32 number of entries, the entries (u32 block, u32 page),
 * SHA-256 of everything before. It only makes a resume faster: a damaged one is done without.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { writeFileDurably } from '../../base/files.js';
import { CryoboxError, errnoOf, wrapHostError } from '../../errors.js';
import type { PageAddress } from '../qemu-stream/postcopy.js';

const magic = 'CBWRKSET';
const version = 1;
const headerBytes = 16;
const entryBytes = 8;
const digestBytes = 32;
/**
 * Entries kept, each with its group of pages: more than that is no working set but most of the memory, which is
 * better mapped than pushed.
 */
const maxEntries = 64 * 1024;

/** Writes a working set; what is over 64 Ki entries is left out. */
export async function writeWorkingSet(path: string, pages: readonly PageAddress[]): Promise<void> {
  const kept = pages.slice(0, maxEntries);
  const body = Buffer.alloc(headerBytes + kept.length * entryBytes);
  body.write(magic, 0, 'latin1');
  body.writeUInt32LE(version, 8);
  body.writeUInt32LE(kept.length, 12);
  for (const [index, { block, page }] of kept.entries()) {
    body.writeUInt32LE(block, headerBytes + index * entryBytes);
    body.writeUInt32LE(page, headerBytes + index * entryBytes + 4);
  }
  try {
    await writeFileDurably(path, Buffer.concat([body, createHash('sha256').update(body).digest()]));
  } catch (error) {
    throw wrapHostError(error, 'writing a working set');
  }
}

/**
 * Reads a working set; undefined when there is none. `pagesOfBlock` are the blocks' lengths: entries must lie in them.
 * @throws integrity when the file is damaged or belongs to a machine of another size.
 */
export async function readWorkingSet(
  path: string,
  pagesOfBlock: readonly number[],
): Promise<PageAddress[] | undefined> {
  const bytes = await readBounded(path);
  if (!bytes) return undefined;
  const wrong = (why: string): CryoboxError => new CryoboxError('integrity', `working set: ${why}`);
  if (bytes.length < headerBytes + digestBytes) throw wrong('it is cut short');
  const body = bytes.subarray(0, bytes.length - digestBytes);
  if (!createHash('sha256').update(body).digest().equals(bytes.subarray(body.length)))
    throw wrong('its checksum does not match');
  if (body.toString('latin1', 0, 8) !== magic || body.readUInt32LE(8) !== version)
    throw wrong(`expected ${magic} version ${version}`);
  if (body.length !== headerBytes + body.readUInt32LE(12) * entryBytes)
    throw wrong('its length does not fit');
  const pages: PageAddress[] = [];
  for (let at = headerBytes; at < body.length; at += entryBytes) {
    const entry = { block: body.readUInt32LE(at), page: body.readUInt32LE(at + 4) };
    if (entry.page >= (pagesOfBlock[entry.block] ?? 0)) throw wrong(`page ${entry.page} is not in its block`);
    pages.push(entry);
  }
  return pages;
}

async function readBounded(path: string): Promise<Buffer | undefined> {
  try {
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      if (size > headerBytes + maxEntries * entryBytes + digestBytes)
        throw new CryoboxError('integrity', `working set: ${size} bytes are too many`);
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw wrapHostError(error, 'reading a working set');
  }
}
