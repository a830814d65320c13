import { execFile } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';
import { packBoxlite } from '../archive/boxlite-maker.js';
import { layerFiles } from './disk-files.js';
import { failureOf, TestEngine } from './support.js';

const run = promisify(execFile);
const engine = new TestEngine();
let directory: string;

/** Leaves the disk of a box, alone and whole, in the directory. */
beforeAll(async () => {
  const { runtime } = engine;
  const box = await runtime.create({ image: 'tiny', name: 'source' });
  await box.files.write('/root/file', 'from BoxLite');
  await box.stop();
  directory = await mkdtemp(join(engine.home, 'boxlite-'));
  const archive = await box.export(join(directory, 'source.boxsnap'), { compress: false });
  await run('tar', ['-xf', archive, 'disk.qcow2'], { cwd: directory });
  await box.remove();
}, 60_000);

const options = {
  cpus: 1,
  memory_mib: 512,
  disk_size_gb: null,
  env: [['GREETING', 'hello']],
  working_dir: '/root',
  user: null,
  cmd: ['sh'],
  volumes: [],
  privileged: false,
  security: { seccomp: false },
};

it.each([
  [3, [] as string[]],
  [5, ['--format=gnu', '--sparse']],
] as const)('makes a box of an archive of BoxLite, version %d', async (version, tarOptions) => {
  const manifest = { version, box_options: options };
  const archive = await packBoxlite(directory, {
    manifest,
    tarOptions: tarOptions.length > 0 ? tarOptions : undefined,
  });
  const box = await engine.runtime.import(archive, { name: `imported-${version}` });
  expect(await box.info()).toMatchObject({
    status: 'stopped',
    image: 'alpine:latest',
    cpus: 1,
    memoryMiB: 512,
    env: { GREETING: 'hello' },
    workingDir: '/root',
    cmd: ['sh'],
    volumes: [],
    capabilities: {},
  });
  const { stdout, exitCode } = await box.exec(['sh', '-c', 'pwd; echo $GREETING; cat file']);
  expect([stdout.toString(), exitCode]).toEqual(['/root\nhello\nfrom BoxLite', 0]);
  await box.snapshot.create('first');
  expect(await engine.runtime.verify()).toMatchObject({ ok: true, problems: [] });
  await box.remove({ force: true });
});

it('refuses an archive of BoxLite that cannot be a box, and leaves nothing', async () => {
  await engine.runtime.gc();
  const before = await layerFiles(engine.home);
  for (const [box_options, code, memory] of [
    [{ ...options, cpus: 99 }, 'invalid_argument'],
    [{ ...options, disk_size_gb: 1 }, 'archive_invalid'],
    [{ ...options, env: [['A']] }, 'archive_invalid'],
    [{ ...options, working_dir: 'root' }, 'invalid_argument'],
    [options, 'invalid_argument', true],
    [{ ...options, volumes: [{ host: '/etc', guest: '/host' }] }, 'unsupported'],
    [{ ...options, privileged: true }, 'unsupported'],
    [{ ...options, rootfs_path: '/' }, 'unsupported'],
  ] as const) {
    const archive = await packBoxlite(directory, { manifest: { box_options } });
    expect(await failureOf(engine.runtime.import(archive, { name: 'never', memory }))).toMatchObject({
      code,
    });
  }
  const archive = await packBoxlite(directory);
  const bytes = await readFile(archive);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await writeFile(archive, bytes);
  expect((await failureOf(engine.runtime.import(archive, { name: 'never' }))).code).toBe('archive_invalid');
  expect(await engine.runtime.get('never')).toBeNull();
  await engine.runtime.gc();
  expect(await layerFiles(engine.home)).toEqual(before);
});
