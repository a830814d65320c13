import { execa } from 'execa';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/formats/oci/config.js';
import { decompress } from '../../src/formats/oci/decompress.js';
import { fsck, statFiles } from './support/ext4.js';
import { TestHome } from './support/home.js';
import type { TestEntry } from './support/tar.js';

const link = (name: string, target: string): TestEntry => ({ name, type: '2', linkName: target });
const directory = (name: string): TestEntry => ({ name, type: '5' });

test('names are cleaned and clamped at the root, as other tools do', async () => {
  await using home = await TestHome.create();
  await home.build({
    layers: [
      [
        directory('/opt/'),
        { name: '/opt/f' },
        { name: 'opt/../g' },
        directory('usr/lib'),
        link('lib', '../usr/lib'),
      ],
      [{ name: 'lib/foo' }, { name: 'h', type: '1', linkName: '/opt/f' }, { name: 'a' }],
      [{ name: 'a/b' }],
    ],
  });
  expect(await fsck(home.disk)).toBe('clean');
  const found = await statFiles(home.disk, ['/opt/f', '/g', '/usr/lib/foo', '/h', '/a', '/a/b']);
  expect(found.map(({ type }) => type)).toEqual([
    'regular',
    'regular',
    'regular',
    'regular',
    'directory',
    'regular',
  ]);
});

test('what is mounted on and where a box begins is there, whatever the links', async () => {
  await using home = await TestHome.create();
  const layers = [[link('run', '/var/run'), link('dev', '/system/dev'), link('tmp', 'var/tmp')]];
  await home.build({ layers }, { workingDir: '/srv/app' });
  expect(await fsck(home.disk)).toBe('clean');
  const names = ['/run', '/dev', '/var/run', '/system/dev', '/var/tmp', '/srv/app'];
  const found = await statFiles(home.disk, names);
  expect(found.map(({ type, target }) => target ?? type)).toEqual([
    'var/run',
    'system/dev',
    'directory',
    'directory',
    'directory',
    'directory',
  ]);
});

test('a zstd layer may begin with a frame to be skipped', async () => {
  const { stdout } = await execa('zstd', ['-q', '-c'], { input: 'content', encoding: 'buffer' });
  const skipped = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
  const pieces: Buffer[] = [];
  async function* source(): AsyncGenerator<Buffer> {
    yield Buffer.concat([skipped, Buffer.from(stdout)]);
  }
  for await (const piece of decompress(source())) pieces.push(piece);
  expect(Buffer.concat(pieces).toString()).toBe('content');
});

test('a config without the type of its rootfs is taken, and a group alone is that of root', () => {
  const document = {
    architecture: 'amd64',
    os: 'linux',
    config: { User: ':2000' },
    rootfs: { diff_ids: [] },
  };
  const parsed = parseConfig(Buffer.from(JSON.stringify(document)));
  expect(parsed.config.user).toBe('0:2000');
});
