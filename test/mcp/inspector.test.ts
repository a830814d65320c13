import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliPath, mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { installMs } from '../support/installed.js';
import { installedPackage } from '../support/npm-client.js';

const runMs = 120_000;
let home: TestHome;
let inspector: string;

beforeAll(async () => {
  inspector = await installedPackage('@modelcontextprotocol/inspector', '2.12.0');
  home = await newHome();
}, installMs);
afterAll(async () => {
  await runCli(home.path, 'rm', '-f', 'looked-at');
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

/** Runs the inspector's command line over a conversation of its own with one box. */
async function inspect(...args: string[]): Promise<unknown> {
  const program = `${inspector}/node_modules/.bin/mcp-inspector`;
  const conversation = [process.execPath, cliPath, 'mcp', '--box', 'looked-at', '--image', 'tiny'];
  const { stdout } = await execa(
    'node',
    [program, '--cli', ...conversation, '-e', `CRYOBOX_HOME=${home.path}`, ...args],
    {
      timeout: runMs,
    },
  );
  return JSON.parse(stdout);
}

const call = (name: string, ...values: string[]): Promise<unknown> =>
  inspect('--method', 'tools/call', '--tool-name', name, ...values.flatMap((it) => ['--tool-arg', it]));

it('the command line of the inspector lists tools, and calls them', { timeout: 2 * runMs }, async () => {
  const { tools } = (await inspect('--method', 'tools/list')) as { tools: { name: string }[] };
  expect(tools.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['run_command', 'fork', 'publish_port']),
  );
  expect(await call('write_file', 'path=/root/a', 'content=hello')).toMatchObject({
    structuredContent: { bytes: 5 },
  });
  expect(await call('run_command', 'command=cat /root/a')).toMatchObject({
    structuredContent: { stdout: 'hello' },
  });
  expect(await call('remove_box')).toMatchObject({
    content: [{ text: expect.stringContaining('is removed') }],
  });
  expect(await mustRun(home.path, 'ls', '-q')).toBe('');
});
