import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installMs } from '../support/installed.js';
import { installedPackage } from '../support/npm-client.js';
import { E2bStage } from './stage.js';

describe('the command line of E2B', () => {
  let stage: E2bStage;
  let directory: string;
  const e2b = async (args: readonly string[], input = '') => {
    const { stdout, stderr, exitCode } = await execa(join(directory, 'node_modules/.bin/e2b'), args, {
      env: { PATH: process.env['PATH'] ?? '', HOME: directory, NO_UPDATE_NOTIFIER: '1', ...stage.env() },
      extendEnv: false,
      input,
      reject: false,
      timeout: 60_000,
    });
    return { stdout, stderr, exitCode };
  };
  beforeAll(async () => {
    stage = await E2bStage.open();
    directory = await installedPackage('@e2b/cli', '2.19.0');
  }, installMs);
  afterAll(() => stage.close());

  it('makes a sandbox, lists it, runs commands in it, pauses and resumes it, and kills it', async () => {
    const created = await e2b(['sandbox', 'create', 'base', '--detach']);
    expect(created).toMatchObject({ exitCode: 0 });
    const id = /i[0-9a-z]{26}/.exec(created.stdout)?.[0] ?? '';
    const listed = await e2b(['sandbox', 'list', '--format', 'json']);
    expect(listed).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(id) });
    expect(await e2b(['sandbox', 'info', id])).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining(id),
    });
    expect(await e2b(['sandbox', 'exec', id, 'echo', 'hello'])).toMatchObject({
      exitCode: 0,
      stdout: 'hello',
    });
    expect(await e2b(['sandbox', 'exec', id, 'cat'], 'some input')).toMatchObject({
      exitCode: 0,
      stdout: 'some input',
    });
    expect(await e2b(['sandbox', 'exec', id, '--', 'sh', '-c', 'exit 3'])).toMatchObject({ exitCode: 3 });
    expect(await e2b(['sandbox', 'metrics', id])).toMatchObject({ exitCode: 0 });
    expect(await e2b(['sandbox', 'pause', id])).toMatchObject({ exitCode: 0 });
    const paused = await e2b(['sandbox', 'list', '--state', 'paused', '--format', 'json']);
    expect(paused.stdout).toContain(id);
    expect(await e2b(['sandbox', 'resume', id])).toMatchObject({ exitCode: 0 });
    expect(await e2b(['sandbox', 'kill', id])).toMatchObject({ exitCode: 0 });
    expect((await e2b(['sandbox', 'list', '--format', 'json'])).stdout).not.toContain(id);
    const gone = await e2b(['sandbox', 'exec', id, 'true']);
    expect(gone.exitCode).not.toBe(0);
  });
});
