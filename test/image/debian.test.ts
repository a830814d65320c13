import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { buildBaseDisk } from '../../src/image/base-disk.js';
import { buildDebianImage } from '../../src/image/build.js';
import { layerSources } from '../../src/image/image.js';
import { debianImage } from './support/debian.js';
import { fsck, statFiles } from './support/ext4.js';
import { TestHome } from './support/home.js';

test('an image made from Debian packages has its files and starts a shell', {
  timeout: 180_000,
}, async () => {
  await using home = await TestHome.create();
  const { image, store } = await debianImage();
  expect(image.config).toMatchObject({
    cmd: ['/bin/sh'],
    workingDir: '/',
    env: { PATH: expect.stringMatching(/\/usr\/bin/) },
  });
  await buildBaseDisk({
    path: home.disk,
    identity: image.manifestDigest,
    layers: layerSources(store, image),
  });
  expect(await fsck(home.disk)).toBe('clean');
  const [busybox, su, shadow, nul] = await statFiles(home.disk, [
    '/bin/busybox',
    '/bin/su',
    '/etc/shadow',
    '/dev/null',
  ]);
  expect(busybox).toMatchObject({ type: 'regular', owner: '0:0', mode: '0755' });
  expect(su).toMatchObject({ mode: '04755' });
  expect(shadow).toMatchObject({ mode: '0640', owner: '0:42' });
  expect(nul).toMatchObject({ type: 'character special', device: '01:03' });
  const { stdout } = await execa('debugfs', ['-R', 'ls -p /usr/share/doc/bash', home.disk]);
  expect(stdout).toContain('copyright');
  expect(stdout).not.toContain('README');
});

test('a package that does not exist, or is no name, is an argument that is wrong', {
  timeout: 60_000,
}, async () => {
  await using home = await TestHome.create();
  const build = (packages: string[], suite = 'bookworm', mirrors?: string[]): Promise<unknown> =>
    buildDebianImage({ suite, packages, mirrors, store: home.store, scratchDirectory: home.scratch });
  await expect(build(['--help'])).rejects.toMatchObject({
    code: 'invalid_argument',
    message: '"--help" is no name of a Debian package',
  });
  await expect(build(['a,b'])).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(build([], '-x')).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(build([], 'bookworm', ['/etc/shadow'])).rejects.toMatchObject({ code: 'invalid_argument' });
  // An empty repository of our own answers at once.
  const repository = join(home.directory, 'repository');
  await mkdir(repository);
  await writeFile(join(repository, 'Packages'), '');
  await expect(
    build(['no-such-package'], 'bookworm', [`deb [trusted=yes] copy:${repository} ./`]),
  ).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/Unable to locate package no-such-package/),
  });
  await expect(build([], 'bookworm', [`deb [trusted=yes] copy:${repository}/none ./`])).rejects.toMatchObject(
    {
      code: 'image_pull_failed',
    },
  );
  expect(await readdir(home.scratch)).toEqual([]);
});

test('a build that is cancelled ends mmdebstrap and leaves nothing', { timeout: 60_000 }, async () => {
  await using home = await TestHome.create();
  const controller = new AbortController();
  const building = buildDebianImage({
    suite: 'bookworm',
    packages: [],
    store: home.store,
    scratchDirectory: home.scratch,
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  await expect(building).rejects.toMatchObject({ code: 'cancelled' });
  expect(await readdir(home.scratch)).toEqual([]);
  expect(await readdir(join(home.directory, 'store/partial'))).toEqual([]);
});
