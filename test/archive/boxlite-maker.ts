import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tool } from './support.js';

/** What differs from a right archive. */
interface BoxliteOptions {
  readonly manifest?: Readonly<Record<string, unknown>>;
  readonly tarOptions?: readonly string[];
  readonly extra?: readonly string[];
  readonly plain?: boolean;
}

/**
 * An archive in the shape BoxLite 0.10 writes, a zstd tar of manifest.json and disk.qcow2, of the disk.qcow2 in a
 * directory. Returns its path.
 */
export async function packBoxlite(directory: string, options: BoxliteOptions = {}): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(join(directory, 'disk.qcow2'))) hash.update(piece as Buffer);
  const manifest = {
    version: 3,
    box_name: 'web',
    image: 'alpine:latest',
    box_options: { cpus: 2, memory_mib: 512 },
    guest_disk_checksum: '',
    container_disk_checksum: `sha256:${hash.digest('hex')}`,
    exported_at: '2026-01-02T03:04:05Z',
    ...options.manifest,
  };
  await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
  const files = ['manifest.json', 'disk.qcow2', ...(options.extra ?? [])];
  const format = options.tarOptions ?? ['--format=gnu'];
  await tool(directory, 'tar', ...format, '-cf', 'made.tar', ...files);
  if (options.plain) return join(directory, 'made.tar');
  await tool(directory, 'zstd', '-qf', '-3', 'made.tar', '-o', 'made.boxlite');
  return join(directory, 'made.boxlite');
}
