import { mkdir, readdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { buildBaseDisk } from '../../src/formats/oci/base-disk.js';
import { buildDebianImage } from '../../src/image/build.js';
import { layerSources } from '../../src/image/image.js';
import { importImage } from '../../src/image/import.js';
import { debianImage, debianLayout } from './support/debian.js';
import { dumpFiles, fsck, statFiles } from './support/ext4.js';
import { TestHome } from './support/home.js';
import {
  attributesOnHost,
  change,
  type Facts,
  factsOnHost,
  hashOf,
  isRoot,
  rootless,
  umoci,
} from './support/umoci.js';

test('an image made from Debian packages has its files and starts a shell', {
  timeout: 180_000,
}, async () => {
  await using home = await TestHome.create();
  const { image, store } = await debianImage();
  expect(image.config).toMatchObject({
    cmd: ['/bin/sh'],
    workingDir: '/',
    env: { PATH: expect.stringMatching(/\/usr\/bin/), PIP_BREAK_SYSTEM_PACKAGES: '1' },
  });
  await buildBaseDisk({
    path: home.disk,
    identity: image.manifestDigest,
    layers: layerSources(store, image),
  });
  expect(await fsck(home.disk)).toBe('clean');
  const [homeOfUser, sudoers, busybox, su, shadow, nul] = await statFiles(home.disk, [
    '/home/user',
    '/etc/sudoers.d/user',
    '/bin/busybox',
    '/bin/su',
    '/etc/shadow',
    '/dev/null',
  ]);
  expect(homeOfUser).toMatchObject({ type: 'directory', owner: '1000:1000' });
  expect(sudoers).toMatchObject({ owner: '0:0', mode: '0440' });
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

test('the disk equals what umoci unpacks, file by file', { timeout: 180_000 }, async () => {
  await using home = await TestHome.create();
  const layout = join(home.directory, 'layout');
  await debianLayout(layout, 'base');
  const first = join(home.directory, 'first');
  await umoci('unpack', ...rootless, '--image', `${layout}:base`, first);
  await change(join(first, 'rootfs'));
  await umoci('repack', '--image', `${layout}:changed`, first);
  const second = join(home.directory, 'second');
  await umoci('unpack', ...rootless, '--image', `${layout}:changed`, second);
  const root = join(second, 'rootfs');

  const image = await importImage({
    source: layout,
    tag: 'changed',
    store: home.store,
    scratchDirectory: home.scratch,
  });
  expect(image.layers.length).toBe(2);
  await home.buildDisk(image, { sizeBytes: 2 ** 30 });
  expect(await fsck(home.disk)).toBe('clean');

  const { stdout } = await execa('find', [root, '-printf', '/%P\\n'], { maxBuffer: 64 * 2 ** 20 });
  const paths = stdout.split('\n');
  const dump = await dumpFiles(home.disk, home.directory);
  const dumped = await execa(
    'find',
    [
      dump,
      '-mindepth',
      '1',
      '(',
      '-type',
      'f',
      '-o',
      '-type',
      'd',
      '-o',
      '-type',
      'l',
      ')',
      '-printf',
      '/%P\\n',
    ],
    { maxBuffer: 64 * 2 ** 20 },
  );
  const onDisk = await statFiles(home.disk, paths);
  const attributes = await attributesOnHost(root);
  const differences: unknown[] = [];
  for (const [index, path] of paths.entries()) {
    const expected = await factsOnHost(join(root, path));
    const actual = onDisk[index];
    if (!actual) throw new Error(`no facts of ${path}`);
    const { type } = actual;
    // Without root umoci puts an empty file where a device belongs.
    if (!isRoot && type.endsWith('special')) continue;
    const content =
      type === 'regular'
        ? await hashOf(join(dump, path))
        : type === 'symlink'
          ? await readlink(join(dump, path))
          : undefined;
    const facts: Facts = {
      type,
      mode: Number.parseInt(actual.mode, 8).toString(8),
      owner: isRoot ? actual.owner : expected.owner,
      links: type === 'directory' ? undefined : actual.links,
      size: type === 'regular' ? actual.size : undefined,
      modifiedAt: actual.modifiedAt,
      device: actual.device?.split(':').map(Number).join(':'),
      content,
    };
    const both = [
      { ...facts, attributes: actual.attributes },
      { ...expected, attributes: attributes.get(path) ?? {} },
    ];
    if (JSON.stringify(both[0]) !== JSON.stringify(both[1]))
      differences.push({ path, disk: both[0], umoci: both[1] });
  }
  expect(differences).toEqual([]);
  expect(paths.length).toBeGreaterThan(3000);
  // Nothing is on the disk that umoci does not have; debugfs does not dump devices and pipes, which were compared above.
  expect(dumped.stdout.split('\n').filter((path) => !paths.includes(path))).toEqual([]);
  expect(await readdir(join(dump, 'var/lib/dpkg/info'))).toEqual(['new']);
});
