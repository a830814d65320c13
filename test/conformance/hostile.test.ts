import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { createServer } from '../../dist/server/index.js';
import type { Box } from '../../src/api/index.js';
import { zstdTar } from '../archive/tar-maker.js';
import { Stage } from './support.js';

async function collected(source: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe('a hostile client', () => {
  let stage: Stage;
  let box: Box;
  let boxUrl: string;
  let host: string;

  beforeAll(async () => {
    stage = await Stage.open();
    host = await mkdtemp(join(tmpdir(), 'cryobox-hostile-'));
    box = await stage.engine.runtime().create({ image: 'tiny', name: 'main', detach: true });
    boxUrl = `${stage.url}/v1/boxes/main`;
  });
  afterAll(async () => {
    await stage.close();
    await rm(host, { recursive: true, force: true });
  });

  async function startExec(...argv: string[]): Promise<string> {
    const execution = await box.startExec(argv, { stdin: true });
    await execution.detach();
    return execution.id;
  }

  /** Upgrades a bare TCP connection to an attach. */
  async function upgraded(id: string): Promise<{ socket: Socket; closed: Promise<unknown> }> {
    const { host, port, pathname } = new URL(`${boxUrl}/executions/${id}/attach`);
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    const closed = once(socket, 'close');
    socket.write(
      `GET ${pathname} HTTP/1.1\r\nhost: ${host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
        'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 101 /);
    return { socket, closed };
  }

  const released = async (id: string): Promise<number> => {
    const began = performance.now();
    while ((await box.executions.get(id))?.attached) {
      expect(performance.now() - began).toBeLessThan(15_000);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return performance.now() - began;
  };

  it('that sends no WebSocket frames is cut off, and the command stays for others', async () => {
    const frames = {
      'a frame without a mask': Buffer.from([0x82, 0x01, 0x41]),
      'reserved bits': Buffer.from([0xf2, 0x81, 0, 0, 0, 0, 0x41]),
      'an opcode that does not exist': Buffer.from([0x83, 0x80, 0, 0, 0, 0]),
      'a fragmented ping': Buffer.from([0x09, 0x80, 0, 0, 0, 0]),
      'a frame of 2^62 bytes': Buffer.from([0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
      noise: Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 31) % 256)),
    };
    for (const bytes of Object.values(frames)) {
      const id = await startExec('cat');
      const { socket, closed } = await upgraded(id);
      socket.write(bytes);
      await closed;
      await box.executions.kill(id);
    }
  });

  it('that sends a message over the limit is told so', async () => {
    const id = await startExec('cat');
    const socket = new WebSocket(`${boxUrl.replace('http', 'ws')}/executions/${id}/attach`);
    socket.on('error', () => undefined);
    await once(socket, 'open');
    socket.send(Buffer.alloc(16 * 1024 * 1024 + 1));
    const [code] = (await once(socket, 'close')) as [number];
    expect([1009, 1006]).toContain(code);
    await box.executions.kill(id);
  });

  it('that ends its half of a WebSocket is let go', async () => {
    const id = await startExec('cat');
    const { socket, closed } = await upgraded(id);
    socket.end();
    await closed;
    // Its streams are held for ten seconds, then the command is free; meanwhile a client may come back for it.
    const again = await upgraded(id);
    again.socket.destroy();
    await again.closed;
    await box.executions.kill(id);
  });

  it('that attaches a second time is refused, whatever way the first came', async () => {
    const id = await startExec('cat');
    const first = await upgraded(id);
    const answer = await fetch(`${boxUrl}/executions/${id}/attach`, { headers: { connection: 'close' } });
    expect(answer.status).toBe(400);
    await expect(box.executions.attach(id)).rejects.toMatchObject({ code: 'conflict' });
    first.socket.destroy();
    await box.executions.kill(id);
  });

  it('that leaves a command nobody follows has it ended', async () => {
    const server = createServer({
      runtimeFor: (tenant) => stage.engine.runtime(tenant),
      authenticator: null,
      limits: { attachWaitMs: 50, orphanMs: 100 },
    });
    const { url } = await server.listen({ port: 0 });
    try {
      const asked = {
        command: 'sh',
        args: ['-c', 'trap "echo bye > /root/hup; exit 3" HUP; while true; do usleep 20000; done'],
      };
      const answer = await fetch(`${url}/v1/boxes/main/exec`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(asked),
      });
      const { execution_id: id } = (await answer.json()) as { execution_id: string };
      const deadline = performance.now() + 20_000;
      while ((await box.executions.get(id))?.status === 'running') {
        expect(performance.now()).toBeLessThan(deadline);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      // SIGHUP came first, so it could say goodbye.
      expect(await box.executions.get(id)).toMatchObject({ exitCode: 3 });
      expect((await box.files.read('/root/hup')).toString()).toBe('bye\n');
      // One that is attached again in time goes on.
      const kept = await startExec('sleep', '60');
      const follower = await box.executions.attach(kept);
      expect((await box.executions.get(kept))?.status).toBe('running');
      await follower.kill();
    } finally {
      await server.close();
    }
  });

  it('cannot write outside of the directory it unpacks into', async () => {
    await box.files.makeDirectory('/root/target');
    const attacks: [string, (tar: ReturnType<typeof pack>) => void][] = [
      ['parents', (tar) => tar.entry({ name: '../escaped' }, 'x')],
      ['deep parents', (tar) => tar.entry({ name: 'a/../../../root/escaped' }, 'x')],
      ['an absolute name', (tar) => tar.entry({ name: '/root/escaped' }, 'x')],
      [
        'a link and what is written through it',
        (tar) => {
          tar.entry({ name: 'out', type: 'symlink', linkname: '/root' });
          tar.entry({ name: 'out/escaped' }, 'x');
        },
      ],
      [
        'a hard link to a file outside',
        (tar) => tar.entry({ name: 'hard', type: 'link', linkname: '../../etc/passwd' }),
      ],
    ];
    for (const [what, fill] of attacks) {
      const tar = pack();
      // A first member makes the target a directory that is extracted into.
      tar.entry({ name: 'first' }, 'x');
      fill(tar);
      tar.finalize();
      const answer = await fetch(`${boxUrl}/files?path=/root/target/`, {
        method: 'PUT',
        headers: { 'content-type': 'application/x-tar' },
        body: new Uint8Array(await collected(tar)),
      });
      await answer.arrayBuffer();
      expect([what, answer.status < 500]).toEqual([what, true]);
      expect([what, await box.files.stat('/root/escaped'), await box.files.stat('/escaped')]).toEqual([
        what,
        null,
        null,
      ]);
      const linked = await box.exec(['sh', '-c', 'test /root/target/hard -ef /etc/passwd']);
      expect([what, linked.exitCode]).toEqual([what, 1]);
      await box.exec(['sh', '-c', 'rm -rf /root/target/*']);
    }
  });

  it('cannot fill the host with an archive that grows', async () => {
    const import_ = async (body: Buffer) => {
      const answer = await fetch(`${stage.url}/v1/boxes/import`, {
        method: 'POST',
        headers: { 'content-type': 'application/octet-stream' },
        body: new Uint8Array(body),
      });
      return { status: answer.status, text: await answer.text() };
    };
    // What is there compresses a thousandfold, and is more than was announced.
    const zeros = Buffer.alloc(64 * 1024 * 1024);
    const grown = await zstdTar(host, {
      members: [
        { name: 'guest-rootfs.qcow2', bytes: zeros, sizeBytes: 1000 },
        { name: 'disk.qcow2', bytes: zeros },
      ],
    });
    expect(grown.length).toBeLessThan(zeros.length / 100);
    const huge = await zstdTar(host, { members: [{ name: 'disk.qcow2', bytes: zeros, sizeBytes: 2 ** 50 }] });
    const strange = await zstdTar(host, { members: [{ name: '../../escaped', bytes: Buffer.from('x') }] });
    for (const archive of [grown, huge, strange, Buffer.from('no archive'), Buffer.alloc(0)]) {
      const { status, text } = await import_(archive);
      expect([status >= 400 && status < 500, text]).toEqual([true, text]);
    }
    expect(await readdir(join(stage.home.path, 'scratch'))).toEqual([]);
    expect((await stage.engine.runtime().list()).length).toBe(1);
  });

  it('that goes away in the middle of an upload leaves nothing', async () => {
    const { host: name, port } = new URL(stage.url);
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(
      `PUT /v1/boxes/main/files/content?path=/root/half HTTP/1.1\r\nhost: ${name}\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000000\r\n\r\n`,
    );
    socket.write(Buffer.alloc(300_000));
    await once(socket, 'drain').catch(() => undefined);
    socket.destroy();
    const importing = connect(Number(port), '127.0.0.1');
    importing.on('error', () => undefined);
    importing.write(
      `POST /v1/boxes/import HTTP/1.1\r\nhost: ${name}\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000000\r\n\r\n`,
    );
    importing.write(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]));
    await once(importing, 'connect');
    importing.destroy();
    const deadline = performance.now() + 5000;
    while ((await readdir(join(stage.home.path, 'scratch'))).length > 0)
      expect(performance.now()).toBeLessThan(deadline);
    expect(await box.files.stat('/root/half')).toBeNull();
  });

  it('is let go of within a second, with what it asked for', async () => {
    const id = await startExec('cat');
    const remote = new WebSocket(`${boxUrl.replace('http', 'ws')}/executions/${id}/attach`);
    await once(remote, 'open');
    expect((await box.executions.get(id))?.attached).toBe(true);
    remote.close(1000);
    expect(await released(id)).toBeLessThan(1000);
    await box.executions.kill(id);
  });
});
