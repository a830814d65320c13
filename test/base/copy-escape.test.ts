import { mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRuntime } from '../../dist/remote/index.js';
import { unpackHostTree } from '../../src/base/host-unpack.js';
import { temporaryDirectory } from '../server/support.js';
import { spawnCli } from '../support/cli.js';

type Entry = Parameters<ReturnType<typeof pack>['entry']>[0];
type Entries = readonly [Entry, string?][];

function tarOf(entries: Entries): AsyncIterable<Uint8Array> {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? '');
  tar.finalize();
  return tar as unknown as AsyncIterable<Uint8Array>;
}

/** Tars that were asked to be one file or tree, `DEST`, and hold more: each would write beside it. */
const shapes: Record<string, Entries> = {
  'a second file': [
    [{ name: 'x' }, 'x'],
    [{ name: 'victim' }, 'taken'],
  ],
  'a file below a directory that is there': [
    [{ name: 'x' }, 'x'],
    [{ name: '.ssh/keys' }, 'taken'],
  ],
  'a directory': [[{ name: 'x' }, 'x'], [{ name: 'made/', type: 'directory' }]],
  'a link': [[{ name: 'x' }, 'x'], [{ name: 'made', type: 'symlink', linkname: '/etc' }]],
  'a hard link': [[{ name: 'x' }, 'x'], [{ name: 'made', type: 'link', linkname: 'victim' }]],
  'a file after a link': [[{ name: 'x', type: 'symlink', linkname: '.ssh' }], [{ name: 'victim' }, 'taken']],
  'a file through a link that became the destination': [
    [{ name: 'x', type: 'symlink', linkname: '.ssh' }],
    [{ name: 'x/keys' }, 'taken'],
  ],
  'a file through a link without a name': [
    [{ name: '.', type: 'symlink', linkname: '.ssh' }],
    [{ name: 'keys' }, 'taken'],
  ],
  'a file in the place of the directory': [[{ name: './', type: 'directory' }], [{ name: '.' }, 'taken']],
  'a hard link to a neighbour': [[{ name: 'x', type: 'link', linkname: 'victim' }]],
  'a hard link to a neighbour, and a file': [
    [{ name: 'x', type: 'link', linkname: 'victim' }],
    [{ name: 'x' }, 'taken'],
  ],
  'a hard link out of a tree': [
    [{ name: './', type: 'directory' }],
    [{ name: 'h', type: 'link', linkname: '../victim' }],
  ],
  'a hard link through a link': [
    [{ name: 'up', type: 'symlink', linkname: '..' }, ''],
    [{ name: 'h', type: 'link', linkname: 'up/victim' }],
  ],
  'a hard link to the tree itself': [
    [{ name: './', type: 'directory' }],
    [{ name: 'h', type: 'link', linkname: '.' }],
  ],
};

async function neighbours(): Promise<string> {
  const root = await temporaryDirectory();
  await mkdir(join(root, '.ssh'));
  await writeFile(join(root, '.ssh', 'keys'), 'mine');
  await writeFile(join(root, 'victim'), 'mine');
  return root;
}

/** Beside the destination all is as it was. */
async function expectUntouched(root: string): Promise<void> {
  expect((await readdir(root)).filter((name) => name !== 'new').sort()).toEqual(['.ssh', 'victim']);
  expect(await readdir(join(root, '.ssh'))).toEqual(['keys']);
  expect(await readFile(join(root, '.ssh', 'keys'), 'utf8')).toBe('mine');
  expect(await readFile(join(root, 'victim'), 'utf8')).toBe('mine');
}

describe.each(Object.entries(shapes))('a copy that brings %s', (_shape, entries) => {
  it('is refused, and writes nothing beside its destination', async () => {
    const root = await neighbours();
    await expect(unpackHostTree(tarOf(entries), join(root, 'new'))).rejects.toMatchObject({
      code: 'archive_invalid',
    });
    await expectUntouched(root);
  });
});

describe('a server that answers a copy with more than was asked for', () => {
  let url = '';
  let entries: Entries = [];
  const box = {
    box_id: 'box_01h0000000000000000000000a',
    status: 'running',
    created_at: new Date(0).toISOString(),
    updated_at: new Date(0).toISOString(),
    image: 'tiny',
    cpus: 1,
    memory_mib: 512,
    disk_size_gb: 1,
    capabilities: {},
  };
  const server = createServer((request, response) => {
    if (!request.url?.includes('/files')) {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(box));
      return;
    }
    response.setHeader('content-type', 'application/x-tar');
    (tarOf(entries) as unknown as NodeJS.ReadableStream).pipe(response);
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  it('cannot write beside the destination of copyOut', async () => {
    const runtime = connectRuntime({ url });
    try {
      const found = await runtime.get('evil');
      for (entries of Object.values(shapes)) {
        const root = await neighbours();
        const copied = found?.files.copyOut('/x', join(root, 'new'));
        await expect(copied).rejects.toMatchObject({ code: 'archive_invalid' });
        await expectUntouched(root);
      }
    } finally {
      await runtime.close();
    }
  });

  it('cannot write beside the destination of cp', async () => {
    entries = shapes['a file below a directory that is there'] ?? [];
    const root = await neighbours();
    const env = { CRYOBOX_URL: url };
    const { exitCode, stderr } = await spawnCli(root, ['cp', 'evil:/x', join(root, 'new')], { env });
    expect([exitCode, String(stderr)]).toEqual([125, expect.stringContaining('goes on with ".ssh/keys"')]);
    await expectUntouched(root);
  });
});

it('a link that was asked for is brought as a link', async () => {
  const root = await neighbours();
  await unpackHostTree(tarOf([[{ name: 'x', type: 'symlink', linkname: '.ssh/keys' }]]), join(root, 'new'));
  expect(await readlink(join(root, 'new'))).toBe('.ssh/keys');
  await expectUntouched(root);
});
