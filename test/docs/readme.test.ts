import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { newHome } from '../support/home.js';

it('the example of the README runs as it stands', async () => {
  const readme = await readFile('README.md', 'utf8');
  const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  expect(example.trim().split('\n').length).toBeLessThanOrEqual(22);
  await using home = await newHome();
  await mkdir('.cache', { recursive: true });
  // Inside the package, so that its own name leads to what is built.
  const file = `.cache/readme-${process.pid}.mjs`;
  await writeFile(file, example);
  try {
    const { stdout, exitCode } = await execa(process.execPath, [file], {
      env: { CRYOBOX_HOME: home.path },
      timeout: 50_000,
      reject: false,
      all: true,
    });
    expect(stdout).toContain('0 42');
    expect(stdout).toContain('0\n1\n2\n');
    expect(stdout).toContain('command_not_found');
    expect(exitCode).toBe(0);
  } finally {
    await rm(file, { force: true });
    await runCli(home.path, 'engine', 'stop');
  }
});
