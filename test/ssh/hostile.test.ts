import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import ssh2, { type Client, type ClientChannel, type SFTPWrapper } from 'ssh2';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { sshLimits } from '../../src/ssh/limits.js';
import { serveSsh } from '../../src/ssh/server.js';
import { temporaryDirectory } from '../support/temporary.js';
import { type SshStage, sshStage } from './stage.js';

let stage: SshStage;
const host = ssh2.utils.generateKeyPairSync('ed25519');
const known = ssh2.utils.generateKeyPairSync('ed25519');
const unknown = ssh2.utils.generateKeyPairSync('ed25519');
const said: string[] = [];
const clients: Client[] = [];

beforeAll(async () => {
  stage = await sshStage();
});
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  said.length = 0;
});
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
});

/** A connection to a server of its own, and what settles when that has ended. */
async function served(handshakeMs?: number): Promise<{ socket: Socket; ended: Promise<void> }> {
  const server = createServer({ allowHalfOpen: true }).listen(join(await temporaryDirectory(), 's'));
  await once(server, 'listening');
  const socket = connect(server.address() as string);
  socket.on('error', () => undefined);
  const [stream] = (await once(server, 'connection')) as [Socket];
  server.close();
  const warn = (message: string) => {
    said.push(message);
  };
  const ended = serveSsh(stream, {
    box: stage.box,
    hostKey: host.private,
    authorizedKeys: [known.public],
    logger: { warn, debug: () => undefined },
    ...(handshakeMs === undefined ? {} : { handshakeMs }),
  });
  return { socket, ended };
}

async function login(options: { username?: string; privateKey?: string; password?: string } = {}) {
  const { socket, ended } = await served();
  const client = new ssh2.Client();
  clients.push(client);
  const given = options.password === undefined ? { privateKey: known.private } : {};
  client.connect({ sock: socket, username: 'root', ...given, ...options });
  await new Promise<void>((resolve, reject) => client.once('ready', resolve).on('error', reject));
  return { client, ended, socket };
}

const run = (client: Client, line: string) =>
  new Promise<ClientChannel>((resolve, reject) =>
    client.exec(line, (error, channel) => (error ? reject(error) : resolve(channel))),
  );
const sftpOf = (client: Client) =>
  new Promise<SFTPWrapper>((resolve, reject) =>
    client.sftp((error, sftp) => (error ? reject(error) : resolve(sftp))),
  );

it.each([
  ['a key that is not known', { privateKey: unknown.private }],
  ['a password', { password: 'root' }],
  ['a user that the box does not have', { username: 'nobody-here' }],
])('nobody is let in with %s', async (_, options) => {
  await expect(login(options)).rejects.toThrow('authentication methods failed');
  if ('username' in options) expect(said).toEqual(['the box has no user "nobody-here"']);
});

it.each([
  ['nothing', ''],
  ['its name only', 'SSH-2.0-slow\r\n'],
])('a client that sends %s and stops holds nothing for long', async (_, text) => {
  const { socket, ended } = await served(200);
  socket.write(text);
  socket.resume();
  await ended;
  expect(said).toEqual(['no login within 0.2 seconds']);
});

it.each([
  ['another protocol', Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')],
  ['noise after its name', Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.alloc(4096, 0xee)])],
  ['an endless name', Buffer.alloc(1_000_000, 0x41)],
])('a client that speaks %s is sent away', async (_, bytes) => {
  const { socket, ended } = await served(10_000);
  socket.resume();
  socket.write(bytes);
  await once(socket, 'end');
  socket.destroy();
  await ended;
});

it('sessions at once are bounded, and free again when they end', async () => {
  const { client } = await login();
  const open: ClientChannel[] = [];
  for (let count = 0; count < sshLimits.sessions; count += 1) open.push(await run(client, 'cat'));
  await expect(run(client, 'true')).rejects.toThrow('Channel open failure');
  open[0]?.resume().end();
  await once(open[0] as ClientChannel, 'close');
  const [code] = await once((await run(client, 'exit 4')).resume(), 'exit');
  expect(code).toBe(4);
});

it('open files and reads of a transfer are bounded, and wrong handles and paths are told', async () => {
  const { client, ended } = await login();
  const sftp = await sftpOf(client);
  const handles: Buffer[] = [];
  const open = () =>
    new Promise<Buffer>((resolve, reject) =>
      sftp.open('/etc/passwd', 'r', (error, handle) => (error ? reject(error) : resolve(handle))),
    );
  while (handles.length < sshLimits.handles) handles.push(await open());
  await expect(open()).rejects.toThrow(`at most ${sshLimits.handles} files are open at once`);
  const attempt = (task: (done: (error?: Error | null) => void) => void) =>
    new Promise((resolve) => task((error) => resolve(error?.message)));
  expect(await attempt((done) => sftp.close(Buffer.from('nosuch'), done))).toContain('nothing is open');
  expect(await attempt((done) => sftp.write(handles[0] as Buffer, Buffer.alloc(1), 0, 1, 0, done))).toContain(
    'was not opened for writing',
  );
  expect(await attempt((done) => sftp.stat('/etc/pass\0wd', done))).toContain('NUL');
  const target = await new Promise<Buffer>((resolve, reject) =>
    sftp.close(handles[0] as Buffer, () =>
      sftp.open('/tmp/huge', 'w', (error, handle) => (error ? reject(error) : resolve(handle))),
    ),
  );
  const beyond = sshLimits.fileBytes;
  expect(await attempt((done) => sftp.write(target, Buffer.alloc(1), 0, 1, beyond, done))).toContain(
    'at most',
  );
  expect(await stage.box.files.stat('/tmp/huge')).toBeNull();
  client.end();
  await ended;
});

it('a transfer that is cut off leaves the file that was there', async () => {
  const { client, ended, socket } = await login();
  await stage.box.files.write('/root/kept', 'old');
  const sftp = await sftpOf(client);
  const handle = await new Promise<Buffer>((resolve, reject) =>
    sftp.open('/root/kept', 'w', (error, opened) => (error ? reject(error) : resolve(opened))),
  );
  await new Promise((resolve) => sftp.write(handle, Buffer.from('new'), 0, 3, 0, resolve));
  socket.destroy();
  await ended;
  expect((await stage.box.files.read('/root/kept')).toString()).toBe('old');
});

it('only ports of the box itself are reached, and none of the client are listened on', async () => {
  const { client } = await login();
  const forward = (to: string) =>
    new Promise((resolve) => client.forwardOut('127.0.0.1', 1, to, 22, (error) => resolve(error?.message)));
  expect(await forward('10.0.2.2')).toContain('Channel open failure');
  const refused = await new Promise((resolve) => client.forwardIn('127.0.0.1', 0, (error) => resolve(error)));
  expect(refused).toBeInstanceOf(Error);
});

it('a connection that breaks ends its commands', async () => {
  const { client, ended, socket } = await login();
  const channel = await run(client, 'sleep 801');
  channel.on('error', () => undefined);
  const running = async () => (await stage.box.exec('ps')).stdout.includes('sleep 801');
  await expect.poll(running, { timeout: 20_000 }).toBe(true);
  socket.destroy();
  await ended;
  expect(await running()).toBe(false);
});
