import { execa } from 'execa';
import { expect, it } from 'vitest';

const setup = (args: readonly string[], env: Record<string, string> = {}) =>
  execa(process.execPath, ['scripts/setup.mjs', ...args], {
    env,
    reject: false,
    timeout: 30_000,
    stdin: 'ignore',
  });

it('says what to install where packages cannot be installed', async () => {
  const { exitCode, stderr } = await setup([], { PATH: '/nonexistent' });
  expect(exitCode).toBe(1);
  expect(stderr).toContain('This is not a Debian-like host');
  expect(stderr).toMatch(
    /Install the equivalents of these Debian packages.*qemu-system-x86.*zstd.*mmdebstrap/,
  );
});

it('refuses options it does not know', async () => {
  const { exitCode, stderr } = await setup(['--for-test']);
  expect(exitCode).toBe(1);
  expect(stderr).toBe('FAIL Unknown option: --for-test\n     Options: --for-tests');
});
