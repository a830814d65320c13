import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { CryoboxError } from '../../src/errors.js';
import { createServer, type Server, type ServerOptions } from '../../src/server/index.js';

/** A directory that is gone after the test. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'cryobox-test-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A server on TCP without a runtime, for what must be decided before one is reached; 503 says that it was reached. */
export async function serverWithoutRuntime(
  options: Partial<ServerOptions> = {},
): Promise<{ server: Server; url: string }> {
  const server = createServer({
    runtimeFor: () => {
      throw new CryoboxError('engine_unavailable', 'the runtime was reached');
    },
    authenticator: null,
    ...options,
  });
  onTestFinished(() => server.close());
  return { server, url: (await server.listen({ port: 0 })).url };
}
