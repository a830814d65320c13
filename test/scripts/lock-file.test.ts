import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';

it('npm ci takes the lock file as it is committed, and asks nobody for what it holds', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-lock-'));
  try {
    for (const name of ['package.json', 'package-lock.json']) await copyFile(name, join(directory, name));
    // Offline and with an empty cache: what the lock file lacks cannot be found elsewhere.
    const args = ['ci', '--dry-run', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
    // A caller's npm may have been told to be silent, which its programs inherit.
    args.push('--loglevel', 'notice');
    const { exitCode, all } = await execa('npm', [...args, '--cache', join(directory, 'cache')], {
      cwd: directory,
      reject: false,
      all: true,
      timeout: 110_000,
    });
    expect(all).toMatch(/added \d+ packages/);
    expect(exitCode).toBe(0);
  } finally {
    await rm(directory, { recursive: true });
  }
}, 120_000);

it.each(['package-lock.json', 'site/package-lock.json'])(
  '%s names no registry, and knows every package by its content',
  async (file) => {
    const { packages } = JSON.parse(await readFile(file, 'utf8')) as {
      packages: Record<string, { resolved?: string; integrity?: string; optional?: boolean }>;
    };
    for (const [path, { resolved, integrity, optional }] of Object.entries(packages)) {
      expect(resolved, path).toBeUndefined();
      // Builds for other platforms may be ones that no registry at hand could say the sum of.
      if (path !== '' && !optional) expect(integrity, path).toMatch(/^sha512-/);
    }
  },
);
