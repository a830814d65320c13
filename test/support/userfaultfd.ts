import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type HomeLock, lockHome } from '../../src/engine/core/lock.js';
import { isCryoboxError } from '../../src/errors.js';
import { builtEntry } from './built.js';

const sysctl = '/proc/sys/vm/unprivileged_userfaultfd';
/** Test files that need the setting run one after the other. */
const lockPath = join(tmpdir(), 'cryobox-userfaultfd.lock');
const lockTimeoutMs = 600_000;
const lookMs = 100;

/** Says whether machines may use userfaultfd. It is a setting of the host. */
export function allowUserfaultfd(allowed: boolean): void {
  writeFileSync(sysctl, allowed ? '1' : '0');
}

/** Lets machines use userfaultfd during the tests of a file, and compiles the page server. */
export function withUserfaultfd(): void {
  let lock: HomeLock | undefined;
  let before = '0';
  beforeAll(async () => {
    await builtEntry('memory/page-server-main.ts');
    lock = await takeLock();
    before = readFileSync(sysctl, 'utf8').trim();
  }, lockTimeoutMs);
  // A run of these tests from elsewhere on this host may have put it back.
  beforeEach(() => allowUserfaultfd(true));
  afterAll(() => {
    writeFileSync(sysctl, before);
    lock?.release();
  });
}

async function takeLock(): Promise<HomeLock> {
  for (;;) {
    try {
      return await lockHome(lockPath);
    } catch (error) {
      if (!isCryoboxError(error, 'home_in_use')) throw error;
      await sleep(lookMs);
    }
  }
}
