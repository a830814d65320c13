import { readdir, readFile } from 'node:fs/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliEnv, mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

/** What each example prints, in this order among other things. */
const printed: Readonly<Record<string, readonly string[]>> = {
  repl: ['>>> twice(x) + 30\n42\n', 'ZeroDivisionError', '>>> print(x)\n6\n', 'ended with 0'],
  untrusted: [
    'honest: exit code 0, 499500',
    'for ever: its time was over',
    'talks without end: too much output',
    'calls home: exit code 1',
    'deletes what it finds: exit code 0, gone',
    'still there: true',
  ],
  'best-fork': ['scores: 3 17 8', 'kept: 17'],
  repository: ['copied 3 entries', 'OK - exit code 0'],
  'web-server': ['200 <h1>Hello from a box</h1>', '404'],
  'stream-to-page': ['data: "step 1"', 'data: "step 3"', 'data: "a warning"', 'event: end\ndata: 0'],
  overnight: ['evening: 3', 'at night: paused', 'morning: 4'],
};

let home: TestHome;
beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

it('are linked in the README, all of them', async () => {
  const readme = await readFile('README.md', 'utf8');
  const files = await readdir('examples');
  expect(files.toSorted()).toEqual(
    Object.keys(printed)
      .map((name) => `${name}.mjs`)
      .toSorted(),
  );
  for (const file of files) expect(readme).toContain(`(examples/${file})`);
});

it.each(Object.keys(printed))(
  'examples/%s.mjs does what it says, and leaves nothing',
  async (name) => {
    const run = await execa(process.execPath, [`examples/${name}.mjs`], {
      env: cliEnv(home.path),
      timeout: 100_000,
      reject: false,
    });
    expect([run.exitCode, run.stderr]).toEqual([0, '']);
    let at = 0;
    for (const text of printed[name] ?? []) {
      expect(run.stdout.slice(at)).toContain(text);
      at = run.stdout.indexOf(text, at) + text.length;
    }
    expect(await mustRun(home.path, 'ls', '-aq')).toBe('');
  },
  120_000,
);
