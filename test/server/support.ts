import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { CryoboxError } from '../../src/errors.js';
import { createServer, type Server, type ServerOptions } from '../../src/server/index.js';

/** A directory that is gone after the test. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'cryobox-test-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A server without a runtime, for what must be decided before one is reached; 503 says that it was reached. */
export function unboundServer(options: Partial<ServerOptions> = {}): Server {
  const server = createServer({
    runtimeFor: () => {
      throw new CryoboxError('engine_unavailable', 'the runtime was reached');
    },
    authenticator: null,
    ...options,
  });
  onTestFinished(() => server.close());
  return server;
}

/** The same, listening on TCP. */
export async function serverWithoutRuntime(
  options: Partial<ServerOptions> = {},
): Promise<{ server: Server; url: string }> {
  const server = unboundServer(options);
  return { server, url: (await server.listen({ port: 0 })).url };
}

/** A certificate for the loopback address that nobody vouches for, and its key; PEM. */
export async function selfSigned(): Promise<{ cert: Buffer; key: Buffer }> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-tls-'));
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  await promisify(execFile)('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...subject]);
  const pair = { cert: await readFile(cert), key: await readFile(key) };
  await rm(directory, { recursive: true });
  return pair;
}
