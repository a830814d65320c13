import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { diskChain } from './disk-files.js';
import { failureOf, TestEngine } from './support.js';

const engine = new TestEngine();

async function output(box: Box, ...argv: string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await box.exec(argv);
  expect(`${exitCode} ${stderr}`).toBe('0 ');
  return stdout.toString();
}

async function hashes(box: Box): Promise<string> {
  return await output(box, 'sh', '-c', 'cat /root/* | sha256sum; ls /root');
}

it('keeps the chain of a running box within 16 files, and its data', async () => {
  const box = await engine.runtime.create({ image: 'tiny', name: 'deep' });
  const writer = await box.startExec([
    'sh',
    '-c',
    'i=0; while [ ! -e /root/stop ]; do i=$((i+1)); echo $i >> /root/log; sync; done; echo $i',
  ]);
  for (let i = 1; i <= 20; i += 1) {
    await box.files.write(`/root/file${i}`, `content ${i}`);
    const { consistency, guestPauseMs } = await box.snapshot.create(`s${i}`);
    expect(consistency).toBe('frozen');
    expect(guestPauseMs).toBeGreaterThan(0);
    expect((await diskChain(engine.home, box.id)).length).toBeLessThanOrEqual(16);
  }
  await box.files.write('/root/stop', '');
  let counted = '';
  for await (const chunk of writer.stdout) counted += Buffer.from(chunk).toString();
  const log = (await output(box, 'cat', '/root/log')).trim().split('\n');
  expect(log).toEqual(Array.from({ length: Number(counted) }, (_, i) => `${i + 1}`));

  const before = await hashes(box);
  await box.stop();
  await box.start();
  expect(await hashes(box)).toBe(before);
  expect(await engine.runtime.verify()).toMatchObject({ ok: true, problems: [] });

  await box.stop();
  await box.snapshot.restore('s3');
  const listing = await output(box, 'ls', '/root');
  expect(listing).toContain('file3');
  expect(listing).not.toContain('file4');
  await box.remove({ force: true });
});

it('brings a box that lost its system back', async () => {
  const box = await engine.runtime.create({ image: 'debian-python', name: 'lost' });
  await box.snapshot.create('v1');
  expect((await box.exec(['rm', '-rf', '/usr'])).exitCode).toBe(0);
  const refused = await failureOf(box.snapshot.restore('v1'));
  expect(refused).toMatchObject({ code: 'invalid_state' });
  expect(refused.message).toContain('Stop the box first');
  await box.stop();
  await box.snapshot.restore('v1');
  expect(await output(box, 'python3', '-c', 'print(1)')).toBe('1\n');
  await box.remove({ force: true });
});

it('exports a running box and makes an equal one of the archive', async () => {
  const box = await engine.runtime.create({ image: 'tiny', name: 'source', env: { GREETING: 'hello' } });
  const directory = await mkdtemp(join(engine.home, 'out'));
  try {
    await box.exec(['sh', '-c', 'for i in 1 2 3; do head -c 300000 /dev/urandom > /root/f$i; done']);
    const before = await hashes(box);
    const archive = await box.export(directory, { env: true });
    expect(archive).toBe(join(directory, 'source.boxsnap'));
    await box.remove({ force: true });
    const copy = await engine.runtime.import(archive, { name: 'copy' });
    expect(await copy.info()).toMatchObject({ status: 'stopped', image: expect.stringContaining('tiny') });
    expect(await hashes(copy)).toBe(before);
    expect(await output(copy, 'sh', '-c', 'echo $GREETING')).toBe('hello\n');
    const streamed = await engine.runtime.import(await copy.exportStream(), { name: 'streamed' });
    expect(await hashes(streamed)).toBe(before);
    await streamed.remove({ force: true });
    await copy.remove({ force: true });
  } finally {
    await rm(directory, { recursive: true });
  }
});
