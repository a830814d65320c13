import { readdirSync, readFileSync } from 'node:fs';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { commandLine } from '../../src/cli/program.js';

/** Packages of the site are brought the first time. */
const limitMs = 400_000;

it('npm run docs builds a site whose links all lead somewhere', { timeout: limitMs }, async () => {
  const { stdout } = await execa('npm', ['run', 'docs'], { timeout: limitMs - 10_000 });
  expect(stdout).toMatch(/^site\/dist: \d+ links, each leads somewhere$/m);

  const cli = readFileSync('site/dist/cli.html', 'utf8');
  const program = commandLine();
  const named = program.createHelp().visibleCommands(program);
  for (const name of named.map((command) => command.name()).filter((name) => name !== 'help')) {
    expect(cli).toContain(`id="cryobox-${name}"`);
  }

  const sdk = readdirSync('site/dist/sdk', { recursive: true }).map(String);
  for (const name of ['Box', 'Runtime', 'Files', 'Execution']) {
    expect(sdk).toContain(`cryobox/interfaces/${name}.html`);
  }
  // What is searched for is in the files of the site: it asks no other host.
  const assets = readdirSync('site/dist/assets', { recursive: true }).map(String);
  expect(assets.some((name) => name.includes('localSearchIndex'))).toBe(true);
});
