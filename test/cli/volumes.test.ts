import { afterAll, beforeAll, expect, it } from 'vitest';
import { mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);

beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
});

it('makes, lists and removes volumes, which outlive the boxes that write them', async () => {
  expect(await must('volume', 'create', 'data', '--size', '2g')).toBe('data\n');
  const write = ['run', '--rm', '-v', 'data:/data', 'tiny', '--', 'sh', '-c', 'echo kept > /data/file'];
  await must(...write);
  expect(await must('run', '--rm', '-v', 'data:/data:ro', 'tiny', '--', 'cat', '/data/file')).toBe('kept\n');
  const refused = await cli('run', '--rm', '-v', 'data:/data:ro', 'tiny', '--', 'touch', '/data/x');
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('Read-only file system');

  await must('create', '--name', 'holder', '-v', 'data:/srv', 'tiny');
  expect(await must('volume', 'ls')).toMatch(/^ID +NAME +SIZE +USED +BOXES +CREATED\nvol_\w+ +data +2/);
  const [listed] = JSON.parse(await must('volumes', 'list', '--format', 'json'));
  expect(listed).toMatchObject({ name: 'data', sizeBytes: 2 * 1024 ** 3, boxes: [expect.any(String)] });
  const taken = await cli('create', '-v', 'data:/srv', 'tiny');
  expect([taken.exitCode, taken.stdout]).toEqual([125, '']);
  expect(taken.stderr).toContain('volume "data" is in use by box holder, which is running');
  expect((await cli('volume', 'rm', 'data')).stderr).toContain('while boxes have it: holder (running)');
  await must('rm', '--force', 'holder');
  expect(await must('volume', 'rm', 'data')).toBe('data\n');
  expect((await cli('volume', 'rm', 'data')).exitCode).toBe(125);
  expect(await must('volume', 'rm', '--force', 'data')).toBe('data\n');
  expect(await must('volume', 'ls')).not.toContain('data');
});
