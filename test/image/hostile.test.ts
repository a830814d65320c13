import { readdir } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import type { ImageLimits } from '../../src/formats/oci/limits.js';
import { TestHome } from './support/home.js';
import { makeTar, type TestEntry } from './support/tar.js';

interface HostileCase {
  readonly what: string;
  readonly layers: readonly (readonly TestEntry[] | Buffer)[];
  readonly code: ErrorCode;
  readonly message: RegExp;
  readonly limits?: Partial<ImageLimits>;
}

const gib = 2 ** 30;
const link = (name: string, target: string): TestEntry => ({ name, type: '2', linkName: target });
const hardLink = (name: string, target: string): TestEntry => ({ name, type: '1', linkName: target });
const refused = 'image_refused';

const cases: readonly HostileCase[] = [
  {
    what: 'dots in a name',
    layers: [[{ name: 'a/../../etc/passwd' }]],
    code: refused,
    message: /"a\/\.\.\/\.\.\/etc\/passwd" leads out/,
  },
  {
    what: 'a circle of symlinks',
    layers: [[link('a', 'b'), link('b', 'a'), { name: 'a/file' }]],
    code: refused,
    message: /behind more than 40 symlinks/,
  },
  {
    what: 'a hard link with dots',
    layers: [[hardLink('shadow', '../../etc/shadow')]],
    code: refused,
    message: /"shadow" leads out of the image/,
  },
  {
    what: 'a hard link through a symlink above the root',
    layers: [[link('up', '..'), hardLink('x', 'up/etc/passwd')]],
    code: 'image_invalid',
    message: /"up\/etc\/passwd", which does not exist/,
  },
  {
    what: 'a hard link to nothing',
    layers: [[hardLink('x', 'y')]],
    code: 'image_invalid',
    message: /"y", which does not exist/,
  },
  {
    what: 'a hard link to a directory',
    layers: [[{ name: 'd/', type: '5' }, hardLink('x', 'd')]],
    code: 'image_invalid',
    message: /hard link to the directory "d"/,
  },
  {
    what: 'a file below a file',
    layers: [[{ name: 'f' }, { name: 'f/x' }]],
    code: 'image_invalid',
    message: /no directory/,
  },
  {
    what: 'a file in place of the root',
    layers: [[{ name: './', type: '2', linkName: 'x' }]],
    code: refused,
    message: /replace the root/,
  },
  {
    what: 'a whiteout of dots',
    layers: [[{ name: '.wh...' }]],
    code: refused,
    message: /whiteout of no file/,
  },
  {
    what: 'a name of 300 bytes',
    layers: [[{ name: 'n'.repeat(300) }]],
    code: refused,
    message: /more than 255 bytes/,
  },
  {
    what: 'a path of 5000 bytes',
    layers: [[{ name: 'd/'.repeat(2500) }]],
    code: refused,
    message: /more than 4096 bytes/,
  },
  {
    what: 'a NUL in a name',
    layers: [[{ name: 'x', pax: { path: 'a\0b' } }]],
    code: refused,
    message: /NUL/,
  },
  { what: 'a symlink to nowhere', layers: [[link('x', '')]], code: refused, message: /target has 0 bytes/ },
  {
    what: 'an impossible device',
    layers: [[{ name: 'x', type: '4', device: [4096, 0] }]],
    code: refused,
    message: /4096:0/,
  },
  {
    what: 'a bomb of devices',
    layers: [Array.from({ length: 11 }, (_, i): TestEntry => ({ name: `d${i}`, type: '3', device: [1, 3] }))],
    limits: { maxDevices: 10 },
    code: refused,
    message: /"d10" is one of more than 10 device nodes/,
  },
  {
    what: 'too many files',
    layers: [Array.from({ length: 101 }, (_, i): TestEntry => ({ name: `f${i}` }))],
    limits: { maxEntries: 100 },
    code: refused,
    message: /"f100" is one of more than 100 entries/,
  },
  {
    what: 'a file of 1 TiB',
    layers: [[{ name: 'huge', size: 1024 * gib }]],
    code: refused,
    message: /"huge" has 1099511627776 bytes; a file may have at most 68719476736/,
  },
  {
    what: 'too much together',
    layers: [
      [
        { name: 'a', content: 'x'.repeat(600) },
        { name: 'b', content: 'x'.repeat(600) },
      ],
    ],
    limits: { maxTotalBytes: 1000 },
    code: refused,
    message: /"b" exceeds the 1000 bytes/,
  },
  {
    what: 'a sparse file in GNU form',
    layers: [[{ name: 's', pax: { 'GNU.sparse.major': '1' } }]],
    code: refused,
    message: /sparse file in GNU form/,
  },
  { what: 'an unknown type', layers: [[{ name: 's', type: 'M' }]], code: refused, message: /of type "M"/ },
  {
    what: 'an extended header without end',
    layers: [[{ name: 'pax', type: 'x', size: 2 ** 31 }]],
    code: refused,
    message: /extended header of 2147483648 bytes/,
  },
  {
    what: 'a broken extended header',
    layers: [[{ name: 'pax', type: 'x', content: '99 path=x\n' }]],
    code: 'image_invalid',
    message: /broken extended header/,
  },
  {
    what: 'attributes over one block',
    layers: [[{ name: 'x', pax: { 'SCHILY.xattr.user.big': 'v'.repeat(5000) } }]],
    code: refused,
    message: /extended attributes/,
  },
  {
    what: 'a layer that ends early',
    layers: [makeTar([{ name: 'x', content: 'y'.repeat(5000) }]).subarray(0, 2000)],
    code: 'image_invalid',
    message: /ends in the middle/,
  },
  {
    what: 'a layer that is no tar',
    layers: [Buffer.alloc(4096, 'text')],
    code: 'image_invalid',
    message: /no tar archive/,
  },
  {
    what: 'a compressed layer in a compressed layer',
    layers: [gzipSync('x'.repeat(2000))],
    code: 'image_invalid',
    message: /tar archive/,
  },
  {
    what: 'an image larger than its disk',
    layers: [[{ name: 'x', content: Buffer.alloc(250 * 2 ** 20, 'x') }]],
    code: refused,
    message: /does not fit on a disk of 268435456 bytes/,
  },
];

describe('a hostile or damaged layer is refused by name and leaves nothing', () => {
  test.each(cases)('$what', async ({ layers, code, message, limits }) => {
    await using home = await TestHome.create();
    const image = await home.import({ layers });
    const before = await home.names();
    await expect(home.buildDisk(image, { limits })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(await home.names()).toEqual(before);
  });

  test('a bomb of compressed zeros ends at the limit', async () => {
    await using home = await TestHome.create();
    const image = await home.import({ layers: [Buffer.alloc(50 * 2 ** 20)] });
    const building = home.buildDisk(image, { limits: { maxTotalBytes: 2 ** 20, maxEntries: 256 } });
    await expect(building).rejects.toMatchObject({
      code: refused,
      message: expect.stringMatching(/unpacks to more than 2097152 bytes/),
    });
  });

  test('a layer that unpacks to something else than its image says', async () => {
    await using home = await TestHome.create();
    const image = await home.import({ layers: [[{ name: 'x' }]], diffIds: [`sha256:${'0'.repeat(64)}`] });
    await expect(home.buildDisk(image)).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringMatching(/its image says sha256:000/),
    });
    expect(await readdir(home.directory)).not.toContain('disk.ext4');
  });

  test('a build is cancelled by its signal and leaves nothing', async () => {
    await using home = await TestHome.create();
    const image = await home.import({ layers: [[{ name: 'x', content: Buffer.alloc(30 * 2 ** 20, 'x') }]] });
    const controller = new AbortController();
    const building = home.buildDisk(image, {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(building).rejects.toMatchObject({ code: 'cancelled' });
    expect(await readdir(home.directory)).not.toContain('disk.ext4');
  });

  test('a file that is there already is not touched', async () => {
    await using home = await TestHome.create();
    const image = await home.import({ layers: [[{ name: 'x' }]] });
    await home.buildDisk(image);
    await expect(home.buildDisk(image)).rejects.toMatchObject({ code: 'storage_error' });
    expect(await readdir(home.directory)).toContain('disk.ext4');
  });
});
