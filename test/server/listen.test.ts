import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer } from '../../src/server/index.js';
import { temporaryDirectory, unboundServer } from './support.js';

describe('a unix socket', () => {
  it('may have a path longer than the kernel takes', async () => {
    const directory = join(await temporaryDirectory(), 'd'.repeat(120));
    await mkdir(directory);
    const socketPath = join(directory, 'engine.sock');
    const server = unboundServer();
    await server.listen({ socketPath });
    const runtime = connectRuntime({ socketPath });
    onTestFinished(() => runtime.close());
    await expect(runtime.list()).rejects.toThrow('the runtime was reached');
    await expect(runtime.get('b').then((box) => box?.exec(['true']))).rejects.toThrow(
      'the runtime was reached',
    );
  });

  it("is its owner's alone, replaces one left behind, and is gone after close", async () => {
    const socketPath = join(await temporaryDirectory(), 'engine.sock');
    await writeFile(socketPath, 'left behind');
    const server = createServer({
      runtimeFor: () => {
        throw new Error('not reached');
      },
      authenticator: null,
    });
    onTestFinished(() => server.close());
    await server.listen({ socketPath });
    expect((await stat(socketPath)).mode & 0o7777).toBe(0o600);
    const runtime = connectRuntime({ socketPath });
    await expect(runtime.list()).rejects.toMatchObject({ code: 'internal' });
    await server.close();
    await expect(stat(socketPath)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(runtime.list()).rejects.toMatchObject({ code: 'network_unavailable' });
    await runtime.close();
  });
});
