import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MemberSource, WriteArchiveOptions } from '../../src/formats/archive/index.js';
import { flattenStream, openChain } from '../../src/formats/qcow2/index.js';
import { patterned, qemuImg } from '../disk/support.js';

const run = promisify(execFile);

/** What every archive of these tests says of its box. */
export const facts: WriteArchiveOptions['facts'] = {
  boxName: 'b',
  image: 'debian:12',
  shape: { cpus: 1, memoryMiB: 256, diskSizeGb: 1 },
  options: { env: { LANG: 'C.UTF-8' }, labels: {} },
};

/** A member that gives bytes. */
export function bytesMember(name: string, bytes: Buffer): MemberSource {
  return {
    name,
    sizeBytes: bytes.length,
    async *open() {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    },
  };
}

/** A small clean qcow2 image of which one in five clusters is zeros. */
export async function makeDisk(directory: string, name: string, lengthBytes: number): Promise<string> {
  const raw = join(directory, `${name}.raw`);
  await writeFile(raw, patterned(lengthBytes, name.length));
  await qemuImg('convert', '-O', 'qcow2', raw, join(directory, name));
  return join(directory, name);
}

/** A disk's flattened image as a member; closes the chain after it was read. */
export async function diskMember(directory: string, top: string, name: string): Promise<MemberSource> {
  const chain = await openChain({ directory, top });
  const image = await flattenStream(chain);
  return {
    name,
    sizeBytes: image.sizeBytes,
    async *open(options) {
      try {
        yield* image.open(options);
      } finally {
        await chain.close();
      }
    },
  };
}

/** Runs a command in a directory. */
export async function tool(directory: string, command: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(command, args, { cwd: directory, timeout: 30_000 });
  return stdout;
}
