import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { type Box, mainExecution } from '../../src/api/index.js';
import { conformance, eventually } from './support.js';

/** Counts up, a line each 0.1 s, and says with what signal it was ended. */
const counting = [
  'sh',
  '-c',
  'trap "echo ended; exit 3" TERM; echo oops >&2; echo $$ > /tmp/pid; n=0; while :; do n=$((n+1)); echo $n > /tmp/n; echo $n; sleep 0.1; done',
];

async function counted(box: Box): Promise<number> {
  return Number((await box.exec(['cat', '/tmp/n'])).stdout.toString());
}

conformance('main commands', (subject) => {
  it('run at every start, are ended first by a stop, and their output and exit code stay', async () => {
    const { runtime } = subject;
    const box = await runtime.create({ image: 'tiny', cmd: counting });
    try {
      expect((await box.info()).main).toEqual({
        command: counting,
        tty: false,
        exitCode: null,
        signal: null,
      });
      await eventually(async () => expect(await counted(box)).toBeGreaterThan(1));
      expect((await box.executions.get(mainExecution))?.status).toBe('running');
      expect((await box.mainOutput()).stdout.toString()).toMatch(/^1\n2\n/);
      await box.stop();
      expect((await box.info()).main).toMatchObject({ exitCode: 3, signal: null });
      const kept = await box.mainOutput();
      expect(kept.stdout.toString()).toMatch(/^1\n2\n(\d+\n)*ended\n$/);
      expect(kept.stderr.toString()).toMatch(/^oops\n/);
      await box.start();
      expect((await box.info()).main).toMatchObject({ exitCode: null });
      await eventually(async () => expect((await box.mainOutput()).stdout.toString()).toMatch(/^1\n/));
    } finally {
      await box.remove({ force: true });
    }
  });

  it('are attached to, typed to, and ended on their terminal', async () => {
    const { runtime } = subject;
    const box = await runtime.create({
      image: 'tiny',
      cmd: ['sh', '-c', 'read line; echo "got $line"'],
      tty: true,
    });
    try {
      const main = await box.executions.attach(mainExecution, { stdin: true });
      await expect(box.executions.attach(mainExecution)).rejects.toMatchObject({ code: 'conflict' });
      await main.stdin?.write('hello\n');
      expect((await buffer(main.stdout)).toString()).toContain('got hello');
      expect(await main.wait()).toMatchObject({ exitCode: 0, signal: null });
      await eventually(async () =>
        expect((await box.info()).main).toMatchObject({ tty: true, exitCode: 0, signal: null }),
      );
      expect((await box.mainOutput()).stdout.toString()).toContain('got hello');
    } finally {
      await box.remove({ force: true });
    }
  });

  it('are refused where they cannot run, and leave nothing', async () => {
    const { runtime } = subject;
    const before = (await runtime.list()).length;
    await expect(runtime.create({ image: 'tiny', cmd: ['no-such-program'] })).rejects.toMatchObject({
      code: 'command_not_found',
    });
    await expect(runtime.create({ image: 'tiny', cmd: ['a\0b'] })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    expect((await runtime.list()).length).toBe(before);
  });

  it('are not there where none was asked for', async () => {
    const { box } = subject;
    expect((await box.info()).main).toBeNull();
    await expect(box.mainOutput()).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(box.executions.attach(mainExecution)).rejects.toMatchObject({ code: 'not_found' });
  });
});
