/** Debian's docker-registry as a process of the test, and what fills it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';

/** How a registry is set up. */
export interface TestRegistryOptions {
  readonly directory: string;
  /** A certificate of its own. @default plain HTTP */
  readonly tls?: boolean;
  /** Ask for this user and password. */
  readonly user?: { readonly name: string; readonly password: string };
}

/** A port nobody listens at. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** A registry on this host; ends with `await using`. */
export class TestRegistry implements AsyncDisposable {
  readonly port: number;
  readonly directory: string;
  readonly #options: TestRegistryOptions;
  #process: ChildProcess | undefined;

  private constructor(port: number, options: TestRegistryOptions) {
    this.port = port;
    this.directory = options.directory;
    this.#options = options;
  }

  static async start(options: TestRegistryOptions): Promise<TestRegistry> {
    const registry = new TestRegistry(await freePort(), options);
    await registry.#configure();
    await registry.restart();
    return registry;
  }

  /** As references name it. */
  get name(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** PEM file of its certificate. */
  get caFile(): string {
    return join(this.directory, 'cert.pem');
  }

  /** Starts the process again, on the same port with the same content. */
  async restart(): Promise<void> {
    await this.kill();
    const log = await open(join(this.directory, 'log'), 'a');
    this.#process = spawn('docker-registry', ['serve', join(this.directory, 'config.yml')], {
      stdio: ['ignore', log.fd, log.fd],
    });
    await log.close();
    for (let attempt = 0; !(await listens(this.port)); attempt += 1) {
      if (attempt > 200) throw new Error(`docker-registry does not listen on ${this.port}`);
      await sleep(25);
    }
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Copies an image of a layout into it. */
  async push(layout: string, image: string): Promise<void> {
    const { user } = this.#options;
    const credentials = user ? ['--dest-creds', `${user.name}:${user.password}`] : [];
    await execa(
      'skopeo',
      [
        '--insecure-policy',
        'copy',
        '--all',
        '--quiet',
        '--dest-tls-verify=false',
        ...credentials,
        layout,
        `docker://${this.name}/${image}`,
      ],
      { timeout: 60_000 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #configure(): Promise<void> {
    const { directory, tls, user } = this.#options;
    await mkdir(join(directory, 'data'), { recursive: true });
    if (tls) {
      const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
      const files = ['-keyout', join(directory, 'key.pem'), '-out', this.caFile];
      await execa('openssl', [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        ...subject,
        ...files,
      ]);
    }
    if (user) {
      // Perl's crypt makes the bcrypt the registry wants, without another package.
      const { stdout } = await execa('perl', [
        '-e',
        'print crypt($ARGV[0], q($2b$05$abcdefghijklmnopqrstuu))',
        user.password,
      ]);
      await writeFile(join(directory, 'htpasswd'), `${user.name}:${stdout}\n`);
    }
    const config = {
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(directory, 'data') } },
      http: {
        addr: this.name,
        ...(tls ? { tls: { certificate: this.caFile, key: join(directory, 'key.pem') } } : {}),
      },
      ...(user ? { auth: { htpasswd: { realm: 'test', path: join(directory, 'htpasswd') } } } : {}),
    };
    // JSON is YAML.
    await writeFile(join(directory, 'config.yml'), JSON.stringify(config));
  }
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
