import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeTarHeader } from '../../src/formats/archive/tar.js';
import { facts, tool } from './support.js';

/** A member of a hand-made archive, right unless something is set. */
interface MadeMember {
  readonly name: string;
  readonly bytes: Buffer;
  /** Name in the tar, when it differs from the manifest's. */
  readonly tarName?: string;
  /** Tar type flag. */
  readonly type?: string;
  readonly sizeBytes?: number;
  readonly sha256?: string;
}

/** A hand-made archive, without seal. */
interface MadeArchive {
  readonly members: readonly MadeMember[];
  /** Text or value in the place of the manifest; null for none. */
  readonly manifest?: unknown;
  /** More fields of the manifest. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Names in the order they stand in the tar. */
  readonly order?: readonly string[];
  readonly after?: Buffer;
}

/** Makes an archive whose parts need not fit each other. */
export async function zstdTar(directory: string, archive: MadeArchive): Promise<Buffer> {
  const manifest = manifestOf(archive);
  const order = archive.order ?? archive.members.map(({ name }) => name);
  const parts: Buffer[] = manifest === undefined ? [] : [entry('manifest.json', Buffer.from(manifest))];
  for (const name of order) {
    const member = archive.members.find((candidate) => candidate.name === name);
    if (member) parts.push(entry(member.tarName ?? member.name, member.bytes, member.type));
  }
  const tar = Buffer.concat([...parts, Buffer.alloc(1024), archive.after ?? Buffer.alloc(0)]);
  await writeFile(join(directory, 'made.tar'), tar);
  await tool(directory, 'zstd', '-qf', 'made.tar', '-o', 'made.zst');
  return await readFile(join(directory, 'made.zst'));
}

function manifestOf({ manifest, members, fields }: MadeArchive): string | undefined {
  if (manifest === null) return undefined;
  if (typeof manifest === 'string') return manifest;
  if (manifest !== undefined) return JSON.stringify(manifest);
  const listed = members.map(({ name, bytes, sizeBytes, sha256 }) => ({
    name,
    sizeBytes: sizeBytes ?? bytes.length,
    sha256: sha256 ?? createHash('sha256').update(bytes).digest('hex'),
  }));
  const exportedAt = new Date(0).toISOString();
  return JSON.stringify({ version: 6, ...facts, members: listed, exportedAt, ...fields });
}

/** One entry in the form our writer gives it, of any type. */
function entry(name: string, bytes: Buffer, type = '0'): Buffer {
  const header = encodeTarHeader(name, bytes.length);
  header.write(type, 156);
  header.write('        ', 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}
