/** Disks and archives without an engine: issue 3, "Speed". */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { diffLimits } from '../../src/api/index.js';
import { readArchive, writeArchive } from '../../src/formats/archive/index.js';
import { diffDisks } from '../../src/formats/ext4/index.js';
import { createOverlay, flattenStream, openBoth, openChain } from '../../src/formats/qcow2/index.js';
import type { BenchCase, BenchRun, NamedCase } from '../harness.js';
import { sampleBytes } from '../support/sample-bytes.js';

const MIB = 1024 * 1024;
const DISK_BYTES = 1024 * MIB;
const DATA_BYTES = 400 * MIB;
const DEPTH = 16;
const backing = { name: 'base', format: 'qcow2' } as const;

async function timed(task: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await task();
  return performance.now() - start;
}

async function command(name: string, ...args: string[]): Promise<void> {
  const child = spawn(name, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${name} ended with ${code}`);
}

/** A run in a directory of its own, which goes with it. */
async function inDirectory(
  make: (directory: string) => Promise<Omit<BenchRun, 'teardown'>>,
): Promise<BenchRun> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-bench-'));
  const teardown = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    return { ...(await make(directory)), teardown };
  } catch (error) {
    await teardown();
    throw error;
  }
}

/** A disk of 1 GiB with 400 MB of sample bytes, under an overlay. */
async function makeDisk(directory: string): Promise<void> {
  const raw = await open(join(directory, 'raw'), 'w');
  await raw.truncate(DISK_BYTES);
  let at = 0;
  for (const piece of sampleBytes(DATA_BYTES / MIB)) {
    await raw.write(piece, 0, MIB, at);
    at += MIB;
  }
  await raw.close();
  await command('qemu-img', 'convert', '-O', 'qcow2', join(directory, 'raw'), join(directory, 'base'));
  await rm(join(directory, 'raw'));
  await createOverlay({ path: join(directory, 'top'), virtualSizeBytes: DISK_BYTES, backing });
}

async function writeBoxsnap(directory: string): Promise<void> {
  await using chain = await openChain({ directory, top: 'top' });
  const image = await flattenStream(chain);
  const facts = { shape: { cpus: 1, memoryMiB: 512, diskSizeGb: 1 } };
  const members = [{ name: 'disk.qcow2', ...image }];
  await writeArchive({ path: join(directory, 'ours.boxsnap'), members, facts });
}

async function convertAndPack(directory: string): Promise<void> {
  const [flat, packed] = [join(directory, 'flat'), join(directory, 'flat.zst')];
  await rm(flat, { force: true });
  await command('qemu-img', 'convert', '-O', 'qcow2', join(directory, 'top'), flat);
  await command('zstd', '-q', '-f', '-3', '-T0', flat, '-o', packed);
}

const overlay: BenchCase = {
  name: 'overlay',
  unit: 'ms',
  rounds: 50,
  maxRatio: 1 / 8,
  maxValue: 1,
  setup: () =>
    inDirectory(async (directory) => {
      await createOverlay({ path: join(directory, 'base'), virtualSizeBytes: DISK_BYTES });
      let made = 0;
      const next = (): string => join(directory, `overlay${made++}`);
      const create = ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base'];
      return {
        measure: () => timed(() => createOverlay({ path: next(), virtualSizeBytes: DISK_BYTES, backing })),
        baseline: () => timed(() => command('qemu-img', ...create, next())),
      };
    }),
};

const exported: BenchCase = {
  name: 'export',
  unit: 'ms',
  rounds: 7,
  maxRatio: 0.9,
  setup: () =>
    inDirectory(async (directory) => {
      await makeDisk(directory);
      return {
        measure: () => timed(() => writeBoxsnap(directory)),
        baseline: () => timed(() => convertAndPack(directory)),
      };
    }),
};

const imported: BenchCase = {
  name: 'import',
  unit: 'ms',
  rounds: 7,
  maxRatio: 1.1,
  setup: () =>
    inDirectory(async (directory) => {
      await makeDisk(directory);
      await writeBoxsnap(directory);
      await convertAndPack(directory);
      const out = join(directory, 'out');
      const source = join(directory, 'ours.boxsnap');
      const [packed, unpacked] = [join(directory, 'flat.zst'), join(directory, 'flat')];
      return {
        measure: async () => {
          await rm(out, { recursive: true, force: true });
          await mkdir(out);
          return await timed(() => readArchive({ source, directory: out }));
        },
        baseline: () =>
          timed(async () => {
            await command('zstd', '-q', '-d', '-f', packed, '-o', unpacked);
            await command('sha256sum', unpacked);
          }),
      };
    }),
};

const deepRead: BenchCase = {
  name: 'read-depth-16',
  unit: 'ms',
  rounds: 9,
  maxRatio: 1.3,
  setup: () =>
    inDirectory(async (directory) => {
      await makeDisk(directory);
      let under = 'top';
      for (let i = 2; i < DEPTH; i += 1) {
        const path = join(directory, `layer${i}`);
        await createOverlay({
          path,
          virtualSizeBytes: DISK_BYTES,
          backing: { name: under, format: 'qcow2' },
        });
        const writes = Array.from({ length: 20 }, (_, k) => ['-c', `write -q -P ${i} ${k * 20 + i}M 256k`]);
        await command('qemu-io', '-f', 'qcow2', ...writes.flat(), path);
        under = `layer${i}`;
      }
      await command('qemu-img', 'convert', '-O', 'qcow2', join(directory, under), join(directory, 'flat'));
      const readAll = async (top: string): Promise<number> => {
        await using chain = await openChain({ directory, top });
        const buffer = Buffer.allocUnsafeSlow(MIB);
        return await timed(async () => {
          for (let at = 0; at < DATA_BYTES; at += MIB) await chain.readInto(buffer, at);
        });
      };
      return { measure: () => readAll(under), baseline: () => readAll('flat') };
    }),
};

const DIFF_FILES = 10_000;
const DIFF_CHANGED = 1_000;

/** A file system of 1 GiB with 10,000 files, and a layer over it in which each tenth file has another content. */
async function makeChangedDisk(directory: string): Promise<void> {
  const files = join(directory, 'files');
  for (let i = 0; i < DIFF_FILES; i += 1) {
    const folder = join(files, `d${i % 500}`);
    if (i < 500) await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `file-${i}`), `content ${i}\n`.repeat(i % 700));
  }
  const [base, changed] = [join(directory, 'base.raw'), join(directory, 'changed.raw')];
  await command('mkfs.ext4', '-q', '-F', '-d', files, base, '1G');
  await command('cp', '--sparse=always', base, changed);
  await writeFile(join(directory, 'input'), 'changed'.repeat(500));
  const commands = [];
  for (let i = 0; i < DIFF_FILES; i += DIFF_FILES / DIFF_CHANGED) {
    commands.push(`cd /d${i % 500}`, `rm file-${i}`, `write ${join(directory, 'input')} file-${i}`);
  }
  await writeFile(join(directory, 'commands'), commands.join('\n'));
  await command('sh', '-c', `debugfs -w -f "${join(directory, 'commands')}" "${changed}" > /dev/null 2>&1`);
  const layer = join(directory, 'layer.qcow2');
  await command('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-B', base, '-F', 'raw', changed, layer);
  await command('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', layer);
}

async function diffOnce(directory: string): Promise<void> {
  const base = { name: 'base.raw', path: join(directory, 'base.raw'), format: 'raw' } as const;
  const layer = { name: 'layer.qcow2', path: join(directory, 'layer.qcow2'), format: 'qcow2' } as const;
  await using disks = await openBoth([base], [layer, base]);
  const { changes } = await diffDisks(
    { chain: disks.from, what: 'the base' },
    { chain: disks.to, what: 'the disk' },
    { limit: diffLimits.page },
  );
  if (changes.length !== DIFF_CHANGED) throw new Error(`${changes.length} files differ`);
}

const diff: BenchCase = {
  name: 'diff',
  unit: 'ms',
  rounds: 9,
  maxValue: 1000,
  setup: () =>
    inDirectory(async (directory) => {
      await makeChangedDisk(directory);
      return { measure: () => timed(() => diffOnce(directory)) };
    }),
};

/** The cases of disks and archives. */
export const diskCases: readonly NamedCase[] = [
  { bench: overlay, baseline: 'qemu-img create -b' },
  { bench: exported, baseline: 'qemu-img convert, zstd -3 -T0' },
  { bench: imported, baseline: 'zstd -d, sha256sum' },
  { bench: deepRead, baseline: 'the same disk in one layer' },
  { bench: diff, baseline: '' },
];
