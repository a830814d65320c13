import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { capLog } from '../../src/home/engine-log.js';
import { temporaryDirectory } from '../support/temporary.js';

it('puts a log aside that is over its size, under who writes it', async () => {
  const path = join(await temporaryDirectory(), 'engine.log');
  await capLog(path, 10);
  await using writer = await open(path, 'a');
  await writer.write('short\n');
  await capLog(path, 10);
  expect(await readFile(path, 'utf8')).toBe('short\n');
  await writer.write('a longer line\n');
  await capLog(path, 10);
  expect((await stat(path)).size).toBe(0);
  expect(await readFile(`${path}.1`, 'utf8')).toBe('short\na longer line\n');
  await writer.write('next\n');
  expect(await readFile(path, 'utf8')).toBe('next\n');
});
