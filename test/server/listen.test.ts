import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer } from '../../src/server/index.js';
import { temporaryDirectory } from './support.js';

describe('a unix socket', () => {
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
