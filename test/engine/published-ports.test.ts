import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { ask, refusesConnections, serveIn } from '../support/published.js';

let home: TestHome;
let engine: Engine;
const open = (): Promise<Engine> => Engine.open({ home: home.path, poolSize: 0 });

beforeAll(async () => {
  home = await newHome();
  engine = await open();
});
afterAll(async () => {
  for (const { id } of await engine.runtime().list()) await engine.runtime().remove(id, { force: true });
  await engine.close();
  await home[Symbol.asyncDispose]();
});

async function listen(port: number): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return server;
}

it('are listened on again by the next engine, which says which one another program has taken', async () => {
  const ports = [{ guestPort: 8000 }, { guestPort: 8000 }];
  const made = await engine.runtime().create({ image: 'tiny', detach: true, ports });
  await serveIn(made, 8000, 'kept');
  const [first, second] = await made.ports.list();
  const [firstPort, secondPort] = [first?.hostPort ?? 0, second?.hostPort ?? 0];
  // A port of a box keeps an engine in the background.
  await made.stop();
  expect(await engine.isIdle()).toBe(false);
  await made.start();
  await serveIn(made, 8000, 'kept');
  await engine.close();
  expect(await refusesConnections(firstPort)).toBe(true);
  const thief = await listen(secondPort);

  engine = await open();
  const box = (await engine.runtime().get(made.id)) ?? expect.unreachable();
  expect(await ask(firstPort)).toBe('kept\n');
  expect((await box.info()).ports).toEqual(
    [
      { ...first, failure: null },
      { ...second, failure: `port 127.0.0.1:${secondPort} of the host is in use` },
    ].sort((a, b) => (a.hostPort ?? 0) - (b.hostPort ?? 0)),
  );
  await new Promise((resolve) => thief.close(resolve));
  expect(await box.ports.publish({ guestPort: 8000, hostPort: secondPort })).toMatchObject({ failure: null });
  expect(await ask(secondPort)).toBe('kept\n');
  await box.remove({ force: true });
  expect(await refusesConnections(secondPort)).toBe(true);
});

it('of a box that does not come up are given back', async () => {
  const server = await listen(0);
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  await new Promise((resolve) => server.close(resolve));
  const options = { image: 'tiny', ports: [{ guestPort: 80, hostPort: port }] };
  await expect(engine.runtime().create({ ...options, cmd: ['/no/such'] })).rejects.toMatchObject({
    code: 'command_not_found',
  });
  await expect(engine.runtime().create({ ...options, image: '127.0.0.1:1/none' })).rejects.toThrow();
  expect(await refusesConnections(port)).toBe(true);
  await using box = await engine.runtime().create(options);
  expect((await box.ports.list())[0]?.hostPort).toBe(port);
});

it('connect no more clients at once than they may, and go with a box that dies', async () => {
  await using box = await engine.runtime().create({ image: 'tiny', ports: [{ guestPort: 8001 }] });
  const { stdout } = await box.exec(['sh', '-c', 'nc -ll -p 8001 -e cat >/dev/null 2>&1 & echo started']);
  expect(stdout).toBe('started\n');
  await box.waitForPort(8001);
  const port = (await box.ports.list())[0]?.hostPort ?? 0;
  const waiting = Promise.allSettled(Array.from({ length: 20 }, () => ask(port)));
  expect((await waiting).map((it) => it.status)).toEqual(Array.from({ length: 20 }, () => 'fulfilled'));
  await box.stop();
  // It is started for who connects, and its server is not there any more.
  await expect(ask(port)).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect((await box.info()).status).toBe('running');
});
