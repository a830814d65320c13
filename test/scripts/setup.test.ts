import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

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
  expect(stderr).toBe('FAIL Unknown option: --for-test\n     Options: --for-tests --for-package');
});

describe('the compiler of the guest programs', () => {
  /** A directory with a `cargo` and a `rustc` that are shell scripts. */
  const toolchain = async (root: string, name: string, scripts: Record<string, string>) => {
    const directory = join(root, name);
    await mkdir(directory);
    for (const [file, script] of Object.entries(scripts)) {
      await writeFile(join(directory, file), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    return directory;
  };
  /** What rustup's shims say where no tool chain was installed. */
  const shim = 'echo "error: rustup could not choose a version of cargo to run" >&2; exit 1';

  /** Runs the search alone, with a PATH of these directories and a home without a tool chain. */
  const search = async (home: string, path: string) => {
    const script = `
      const { ensureCompiler } = await import('./scripts/lib/rust.mjs');
      console.log(JSON.stringify(await ensureCompiler()));`;
    const { stdout } = await execa(process.execPath, ['--input-type=module', '-e', script], {
      env: { PATH: path, HOME: home },
      extendEnv: false,
      timeout: 30_000,
    });
    const lines = stdout.split('\n');
    return { lines, compiler: JSON.parse(lines.at(-1) ?? '') as { directory: string; version: string } };
  };

  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'cryobox-cargo-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('is the first that works: rustup without a tool chain is passed over, and said so', async () => {
    const rustup = await toolchain(root, 'rustup', { cargo: shim, rustc: shim });
    const half = await toolchain(root, 'half', { cargo: 'echo cargo 1.2.3', rustc: shim });
    const whole = await toolchain(root, 'whole', { cargo: 'echo cargo 4.5.6', rustc: 'echo rustc 4.5.6' });
    const { lines, compiler } = await search(root, [rustup, half, whole, '/usr/bin', '/bin'].join(':'));
    expect(compiler).toMatchObject({ directory: whole, version: 'cargo 4.5.6' });
    expect(lines[0]).toContain(`cargo in ${rustup} does not work (error: rustup could not choose`);
    expect(lines[1]).toContain(`cargo in ${half} does not work`);
  });

  it('takes the rustc beside its cargo, not one that comes earlier on the PATH', async () => {
    const rustup = await toolchain(root, 'rustup', { rustc: shim });
    const whole = await toolchain(root, 'whole', { cargo: 'rustc --version', rustc: 'echo rustc 4.5.6' });
    const { compiler } = await search(root, [rustup, whole, '/usr/bin', '/bin'].join(':'));
    expect(compiler).toMatchObject({ directory: whole, version: 'rustc 4.5.6' });
  });
});
