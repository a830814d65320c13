import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startEngine } from '../engine/engine-process.js';
import { keys, type S3Server, s3Server } from '../objects/s3-server.js';
import { mustRun, runCli } from '../support/cli.js';
import { endMachines, leanHome } from './support.js';

/** A box starts and stops, and files are copied: seconds, but for a host that is busy. */
const limitMs = 300_000;

let server: S3Server;
beforeAll(async () => {
  process.env.AWS_ACCESS_KEY_ID = keys.access;
  process.env.AWS_SECRET_ACCESS_KEY = keys.secret;
  server = await s3Server();
}, 600_000);
afterAll(async () => server?.[Symbol.asyncDispose]());

it(
  'takes a paused box from host to host by commands, through a store that was away and damaged',
  async () => {
    const url = `s3://cryobox/first?endpoint=${server.endpoint}`;
    await using first = await leanHome();
    await using second = await leanHome();
    const engine = await startEngine(first.path, ['env', `CRYOBOX_REPLICATE=${url}`]);
    await mustRun(first.path, 'run', '-d', '--name', 'worker', 'tiny', 'sleep', '1000');
    await mustRun(first.path, 'exec', 'worker', 'sh', '-c', 'echo memory > /dev/shm/note');
    const running = await runCli(first.path, 'release', 'worker');
    expect(running.stderr).toContain('Pause or stop the box first');
    await mustRun(first.path, 'pause', 'worker');
    const id = (await mustRun(first.path, 'release', 'worker')).trim();
    expect(await mustRun(first.path, 'ls', '-q')).toBe('');
    process.kill(engine.pid, 'SIGKILL');
    await engine.exited;
    await endMachines(first);

    const adopt = () => runCli(second.path, 'adopt', url, 'worker', '--name', 'moved');
    // Away for as long as anybody tries.
    server.proxy.lie = ({ url }) => (url.includes('/data') ? { status: 503 } : undefined);
    const away = await adopt();
    expect(away.exitCode).not.toBe(0);
    expect(away.stderr).toContain('failed 5 times');
    server.proxy.lie = () => undefined;
    // One byte of the largest layer that the second host lacks is another one; what both have is not read.
    const known = new Set(await readdir(join(second.path, 'layers')));
    const layers = join(server.files, 'first/layers');
    const sizes = await Promise.all(
      (await readdir(layers))
        .filter((layer) => !known.has(layer))
        .map(async (layer) => {
          const path = join(layers, layer, 'data');
          return { path, bytes: await readFile(path) };
        }),
    );
    const [largest] = sizes.sort((a, b) => b.bytes.length - a.bytes.length);
    if (!largest) throw new Error('no layers');
    const changed = Buffer.from(largest.bytes);
    const middle = Math.floor(changed.length / 2);
    changed[middle] = (changed[middle] ?? 0) ^ 1;
    await writeFile(largest.path, changed);
    const damaged = await adopt();
    expect(damaged.exitCode).not.toBe(0);
    expect(damaged.stderr).toContain('other bytes');
    expect(await mustRun(second.path, 'ls', '-q')).toBe('');
    // Files of layers that came before it went with it.
    expect(await mustRun(second.path, 'gc', '--dry-run')).not.toContain('layers/');
    await writeFile(largest.path, largest.bytes);

    expect((await mustRun(second.path, 'adopt', url, 'worker', '--name', 'moved')).trim()).toBe(id);
    await mustRun(second.path, 'resume', 'moved');
    expect(await mustRun(second.path, 'exec', 'moved', 'cat', '/dev/shm/note')).toBe('memory\n');
    await mustRun(second.path, 'verify');
    await mustRun(second.path, 'rm', '--force', 'moved');
    await mustRun(second.path, 'engine', 'stop');
  },
  limitMs,
);
