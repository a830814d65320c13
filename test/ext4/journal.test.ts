import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { change, changes, lines, makeFileSystem, raw } from './support.js';

let directory: string;
let disk: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-journal-'));
  const files = join(directory, 'files');
  await mkdir(files);
  for (let i = 0; i < 20; i += 1) await writeFile(join(files, `f${i}`), `${i}`);
  disk = join(directory, 'disk');
  await makeFileSystem(disk, 64, files, ['-b', '4096']);
});

afterEach(() => rm(directory, { recursive: true, force: true }));

it.each([[[]], [['-c', '-v', '3']]])('counts what only the journal has (%j)', async (options) => {
  const [changed, written, replayed] = ['changed', 'written', 'replayed'].map((name) =>
    join(directory, name),
  );
  if (!changed || !written || !replayed) throw new Error('no paths');
  await copyFile(disk, changed);
  await change(changed, ['set_inode_field /f7 uid 77', 'set_inode_field /f8 mode 0100600']);
  const found = await execa('debugfs', ['-R', 'imap /f7', disk]);
  const block = Number(/located at block (\d+)/.exec(found.stdout)?.[1]);
  const bytes = await readFile(changed);
  const input = join(directory, 'block');
  await writeFile(input, bytes.subarray(block * 4096, (block + 1) * 4096));
  await copyFile(disk, written);
  const [open, ...rest] = [['jo', ...options].join(' '), `jw -b ${block} ${input}`, 'jc'];
  await change(written, [open ?? '', ...rest]);
  const expected = ['metadata /f7', 'metadata /f8'];
  expect(lines(await changes(raw(disk), raw(written)))).toEqual(expected);
  expect(await changes(raw(changed), raw(written))).toEqual([]);
  // The reference replays it to the same.
  await copyFile(written, replayed);
  await execa('e2fsck', ['-E', 'journal_only', '-y', replayed], { reject: false });
  expect(await changes(raw(written), raw(replayed))).toEqual([]);
  // Revoked in a later transaction, it does not count.
  await change(written, [open ?? '', `jw -r ${block}`, 'jc']);
  expect(lines(await changes(raw(disk), raw(written)))).toEqual([]);
});
