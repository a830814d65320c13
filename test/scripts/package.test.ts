import { readdir } from 'node:fs/promises';
import { execa } from 'execa';
import { expect, it } from 'vitest';

it('the package holds the programs of the guest, all their sources, and the licence', async () => {
  // Without its scripts: what they would build is built already.
  const { stdout } = await execa('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    timeout: 110_000,
  });
  const [packed] = JSON.parse(stdout) as { files: { path: string }[] }[];
  const paths = new Set(packed?.files.map(({ path }) => path));
  const wanted = [
    'LICENSE',
    'README.md',
    'dist/index.js',
    'dist/cli/main.js',
    'dist/ui/index.html',
    'dist/memory/page-server-main.js',
  ];
  const programs = ['dist/guest/cryobox-agent', 'dist/guest/netguard.so', 'dist/guest/cryobox-gateway'];
  const sources: string[] = [];
  for (const crate of ['agent', 'agent/netguard', 'gateway']) {
    const modules = (await readdir(`${crate}/src`)).map((name) => `${crate}/src/${name}`);
    sources.push(...modules, `${crate}/Cargo.toml`, `${crate}/Cargo.lock`, `${crate}/.cargo/config.toml`);
  }
  expect([...wanted, ...programs, ...sources].filter((path) => !paths.has(path))).toEqual([]);
  expect([...paths].filter((path) => /\/target\/|^test\/|^\.cache\//.test(path))).toEqual([]);
}, 120_000);
