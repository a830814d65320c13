import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { type LyingProxy, lyingProxy } from './lying-proxy.js';

const version = 'v1.8.0';
/** Kept over runs; Go's own cache makes it quick to build again. */
const folder = resolve('.cache/versitygw', version);
export const keys = { access: 'test-access', secret: 'test-secret' };

/** A real server of the S3 protocol behind a proxy that can be told to lie; `cryobox` is a bucket of it. */
export interface S3Server extends AsyncDisposable {
  /** Address of the proxy, for clients. */
  readonly endpoint: string;
  readonly proxy: LyingProxy;
  /** Where objects of the bucket lie as files. */
  readonly files: string;
  /** Ends the server as a power cut does. */
  kill(): Promise<void>;
  /** Starts it again on what it has. */
  restart(): Promise<void>;
}

/** Go of this version builds the server, and is a module of Go's own since 1.21 (go.dev/doc/toolchain). */
const toolchain = 'golang.org/toolchain@v0.0.1-go1.24.4.linux-amd64';

/** A Go that is new enough: an older one, as Debian 12 has, is asked for the newer one as for any module. */
async function goCommand(): Promise<string> {
  const { stdout: said } = await execa('go', ['version']);
  const [, minor = '0'] = / go1\.(\d+)/.exec(said) ?? [];
  if (Number(minor) >= 21) return 'go';
  const { stdout } = await execa('go', ['mod', 'download', '-json', toolchain], { timeout: 300_000 });
  const { Dir: root } = JSON.parse(stdout) as { Dir: string };
  // Modules of an older Go hold no programs.
  await execa('chmod', ['-R', 'u+x', join(root, 'bin'), join(root, 'pkg/tool')]);
  return join(root, 'bin/go');
}

/** Builds the server where that was not done yet. */
async function program(): Promise<string> {
  const path = join(folder, 'versitygw');
  if (
    await access(path).then(
      () => true,
      () => false,
    )
  )
    return path;
  const args = ['install', '-ldflags', '-s -w', `github.com/versity/versitygw/cmd/versitygw@${version}`];
  const env = { GOBIN: folder, GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'auto' };
  await execa(await goCommand(), args, { env, timeout: 600_000 });
  return path;
}

/** Starts a server with an empty bucket. Its output is in a file of its directory, which goes with it. */
export async function s3Server(): Promise<S3Server> {
  const binary = await program();
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-s3-'));
  const [socket, data] = [join(directory, 's3.sock'), join(directory, 'data')];
  const files = join(data, 'cryobox');
  await mkdir(files, { recursive: true });
  let server = await start(binary, directory, socket, data);
  const proxy = await lyingProxy(socket);
  const kill = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  };
  return {
    endpoint: proxy.address,
    proxy,
    files,
    kill,
    restart: async () => {
      await rm(socket, { force: true });
      server = await start(binary, directory, socket, data);
    },
    [Symbol.asyncDispose]: async () => {
      await proxy.close();
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function start(binary: string, directory: string, socket: string, data: string): Promise<ChildProcess> {
  const log = await open(join(directory, 'log'), 'a');
  const args = ['--port', socket, '--quiet', '--iam-dir', join(directory, 'iam'), 'posix', data];
  await mkdir(join(directory, 'iam'), { recursive: true });
  const server = spawn(binary, args, {
    stdio: ['ignore', log.fd, log.fd],
    env: { PATH: process.env.PATH, ROOT_ACCESS_KEY: keys.access, ROOT_SECRET_KEY: keys.secret },
  });
  await log.close();
  for (let left = 300; !(await answers(socket)); left -= 1) {
    if (left === 0 || server.exitCode !== null)
      throw new Error(`the S3 server does not start: ${directory}/log`);
    await delay(50);
  }
  return server;
}

async function answers(socket: string): Promise<boolean> {
  const connection = connect(socket);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}
