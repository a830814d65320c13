import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { lockHome } from '../../src/engine/core/lock.js';
import { lockOwner } from '../../src/engine/core/lock-owner.js';

it('names the process that holds a home, and nobody afterwards', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-lock-'));
  const path = join(directory, 'engine.lock');
  try {
    expect(await lockOwner(path)).toBeUndefined();
    const lock = await lockHome(path);
    expect(await lockOwner(path)).toBe(process.pid);
    lock.release();
    expect(await lockOwner(path)).toBeUndefined();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
