import { execFile } from 'node:child_process';
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { defaultLimits } from '../../src/formats/oci/limits.js';
import { loadImage } from '../../src/image/image.js';
import { type ImportImageOptions, importImage } from '../../src/image/import.js';
import { dumpFiles, fsck } from './support/ext4.js';
import { TestHome } from './support/home.js';
import { digest, makeDockerArchive, type TestImage, writeLayout } from './support/layout.js';
import { makeTar } from './support/tar.js';

const hello = makeTar([{ name: 'hello', content: 'world' }]);
const other = makeTar([{ name: 'other', content: 'file' }]);

async function importFrom(home: TestHome, source: string, more: Partial<ImportImageOptions> = {}) {
  return await importImage({ source, store: home.store, scratchDirectory: home.scratch, ...more });
}

/** Writes a layout of one image, lets it be damaged, and imports it. */
async function importBroken(home: TestHome, image: TestImage, damage?: (layout: string) => Promise<void>) {
  const layout = await writeLayout(join(home.directory, 'layout'), [image]);
  await damage?.(layout);
  return await importFrom(home, layout);
}

test('the config says how a box starts', async () => {
  await using home = await TestHome.create();
  const image = await home.import({
    layers: [hello],
    config: {
      Env: ['A=1', 'B=x=y', 'C', 'A=2'],
      WorkingDir: 'srv',
      User: 'app:staff',
      Entrypoint: ['/bin/e'],
      Cmd: null,
      Labels: { l: 'v' },
      ExposedPorts: { '80/tcp': {} },
      Volumes: null,
      StopSignal: 'SIGINT',
    },
  });
  expect(image.config).toEqual({
    env: { A: '2', B: 'x=y', C: '' },
    workingDir: '/srv',
    user: 'app:staff',
    entrypoint: ['/bin/e'],
    cmd: [],
    labels: { l: 'v' },
    exposedPorts: ['80/tcp'],
    volumes: [],
    stopSignal: 'SIGINT',
  });
  const { name: _, ...facts } = image;
  expect(await loadImage(home.store, image.manifestDigest, defaultLimits)).toEqual(facts);
});

test('an archive of docker save, plain or gzip, with a layer that occurs twice', async () => {
  await using home = await TestHome.create();
  const archive = makeDockerArchive([hello, other, hello], ['app:1']);
  await writeFile(join(home.directory, 'a.tar'), archive);
  await writeFile(join(home.directory, 'a.tar.gz'), gzipSync(archive));
  const plain = await importFrom(home, join(home.directory, 'a.tar'));
  const zipped = await importFrom(home, join(home.directory, 'a.tar.gz'), { tag: 'app:1' });
  expect(zipped).toEqual(plain);
  expect(plain).toMatchObject({ name: 'app:1', config: { cmd: ['/bin/true'] } });
  expect(plain.layers.map((layer) => layer.digest)).toEqual([digest(hello), digest(other), digest(hello)]);
  await home.buildDisk(plain);
  expect(await fsck(home.disk)).toBe('clean');
  expect(await readFile(join(await dumpFiles(home.disk, home.directory), 'hello'), 'utf8')).toBe('world');
  expect(
    (await home.names()).filter((name) => name.startsWith('scratch/') || name.includes('partial/')),
  ).toEqual([]);
});

test('a tar of a layout, and zstd layers', async () => {
  await using home = await TestHome.create();
  const zstd = promisify(execFile);
  await writeFile(join(home.directory, 'layer'), hello);
  await zstd('zstd', ['-q', join(home.directory, 'layer')]);
  const layer = await readFile(join(home.directory, 'layer.zst'));
  const layout = await writeLayout(join(home.directory, 'layout'), [
    {
      layers: [hello],
      manifest: {
        layers: [
          {
            mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd',
            digest: digest(layer),
            size: layer.length,
          },
        ],
      },
    },
  ]);
  await writeFile(join(layout, 'blobs', digest(layer).replace(':', '/')), layer);
  await zstd('tar', ['-cf', join(home.directory, 'layout.tar'), '-C', layout, '.']);
  const image = await importFrom(home, join(home.directory, 'layout.tar'));
  await home.buildDisk(image);
  expect(await readFile(join(await dumpFiles(home.disk, home.directory), 'hello'), 'utf8')).toBe('world');
});

test('one of several images is chosen by its name', async () => {
  await using home = await TestHome.create();
  const layout = await writeLayout(join(home.directory, 'layout'), [
    { layers: [hello], name: 'one' },
    { layers: [other], name: 'two' },
  ]);
  expect((await importFrom(home, layout, { tag: 'two' })).layers[0]?.diffId).toBe(digest(other));
  await expect(importFrom(home, layout)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/several images; it has: one, two/),
  });
  await expect(importFrom(home, layout, { tag: 'three' })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/no image "three"/),
  });
});

test('the platform is chosen, and one that is missing is told with those that exist', async () => {
  await using home = await TestHome.create();
  const layout = await writeLayout(join(home.directory, 'layout'), [
    { layers: [hello], architecture: 's390x' },
    { layers: [other], architecture: 'arm64' },
  ]);
  const arm = await importFrom(home, layout, {
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
  });
  expect(arm.layers[0]?.diffId).toBe(digest(other));
  await expect(
    importFrom(home, layout, { platform: { os: 'linux', architecture: 'riscv64' } }),
  ).rejects.toMatchObject({
    code: 'unsupported',
    message: 'the image is not made for linux/riscv64; it exists for linux/s390x, linux/arm64',
  });
});

describe('a damaged image is refused and leaves no blob that looks complete', () => {
  const layerFile = (layout: string): string =>
    join(layout, 'blobs', digest(gzipSync(hello, { level: 1 })).replace(':', '/'));

  test('a layer with other content', async () => {
    await using home = await TestHome.create();
    const damaged = importBroken(home, { layers: [hello] }, async (layout) => {
      const bytes = await readFile(layerFile(layout));
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      await writeFile(layerFile(layout), bytes);
    });
    await expect(damaged).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringMatching(/has the digest sha256:/),
    });
    expect((await home.names()).filter((name) => /^store\/.*[0-9a-f]{64}/.test(name))).toEqual([]);
  });

  test('a layer that is cut, and one that is longer', async () => {
    await using home = await TestHome.create();
    await expect(
      importBroken(home, { layers: [hello] }, (layout) => truncate(layerFile(layout), 30)),
    ).rejects.toMatchObject({ code: 'image_invalid', message: expect.stringMatching(/fewer: 30/) });
    await expect(
      importBroken(home, { layers: [hello] }, (layout) => writeFile(layerFile(layout), Buffer.alloc(9999))),
    ).rejects.toMatchObject({ code: 'image_invalid', message: expect.stringMatching(/more: 9999/) });
  });

  test('a layer that is missing', async () => {
    await using home = await TestHome.create();
    await expect(
      importBroken(home, { layers: [hello] }, (layout) => rm(layerFile(layout))),
    ).rejects.toMatchObject({ code: 'image_invalid', message: expect.stringMatching(/has no file "blobs/) });
  });

  test.each<[string, TestImage, string, RegExp]>([
    [
      'a foreign layer',
      { layers: [hello], layerType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' },
      'image_refused',
      /foreign layer/,
    ],
    [
      'an encrypted layer',
      { layers: [hello], layerType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted' },
      'image_refused',
      /encrypted/,
    ],
    [
      'too many layers',
      { layers: Array.from({ length: 128 }, () => hello) },
      'image_refused',
      /128 layers; at most 127/,
    ],
    [
      'layers the config does not know',
      { layers: [hello], diffIds: [] },
      'image_invalid',
      /1 layers, its config has 0/,
    ],
    [
      'a manifest of other shape',
      { layers: [hello], manifest: { layers: 'none' } },
      'image_invalid',
      /manifest is wrong at layers/,
    ],
    [
      'something that is no image',
      {
        layers: [hello],
        manifest: {
          config: { mediaType: 'application/vnd.cncf.helm.config.v1+json', digest: digest(''), size: 0 },
        },
      },
      'image_refused',
      /no container image/,
    ],
    ['schema 1', { layers: [hello], manifest: { schemaVersion: 1 } }, 'image_refused', /schema 1/],
    [
      'a digest that is a path',
      {
        layers: [hello],
        manifest: {
          config: {
            mediaType: 'application/vnd.oci.image.config.v1+json',
            digest: 'sha256:../../x',
            size: 0,
          },
        },
      },
      'image_invalid',
      /no sha256 digest/,
    ],
    [
      'a NUL in the environment',
      { layers: [hello], config: { Env: ['A=\0'] } },
      'image_invalid',
      /Env.0: holds a NUL/,
    ],
  ])('%s', async (_, image, code, message) => {
    await using home = await TestHome.create();
    await expect(importBroken(home, image)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  test('no layout at all', async () => {
    await using home = await TestHome.create();
    await expect(importFrom(home, join(home.directory, 'none'))).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await expect(importFrom(home, home.directory)).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringMatching(/neither an OCI layout/),
    });
    await writeFile(join(home.directory, 'index.json'), '{"schemaVersion":2,"manifests":');
    await expect(importFrom(home, home.directory)).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringMatching(/not JSON/),
    });
  });
});
