import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { ask, refusesConnections, serveIn } from '../support/published.js';
import { conformance } from './support.js';

conformance('published ports', (subject) => {
  it('lead to a box that runs or is paused, and end with it', async () => {
    const { runtime } = subject;
    const box = await runtime.create({ image: 'tiny', detach: true, ports: [{ guestPort: 8000 }] });
    await serveIn(box, 8000, 'first');
    const [port] = await box.ports.list();
    expect(port).toEqual({
      guestPort: 8000,
      hostPort: expect.any(Number),
      hostIp: '127.0.0.1',
      failure: null,
    });
    expect((await box.info()).ports).toEqual([port]);
    const { hostPort = 0 } = port ?? {};
    expect(await ask(hostPort)).toBe('first\n');
    await box.pause();
    expect(await ask(hostPort)).toBe('first\n');
    expect((await box.info()).status).toBe('running');

    const [child] = await box.fork({ count: 1 });
    if (!child || !('box' in child)) throw new Error('no child');
    expect(await child.box.ports.list()).toEqual([]);
    await child.box.remove({ force: true });
    expect(await ask(hostPort)).toBe('first\n');

    await box.remove({ force: true });
    expect(await refusesConnections(hostPort)).toBe(true);
  });

  it('are added to a box, are the same when asked for again, and are taken from it', async () => {
    const { runtime } = subject;
    const box = await runtime.create({ image: 'tiny', detach: true });
    await serveIn(box, 8001, 'later');
    const added = await box.ports.publish({ guestPort: 8001 });
    expect(await box.ports.publish({ guestPort: 8001 })).toEqual(added);
    expect(await ask(added.hostPort)).toBe('later\n');
    const other = await box.ports.publish({ guestPort: 8001, hostIp: '::1' });
    expect(await ask(other.hostPort, '::1')).toBe('later\n');
    expect(await box.ports.list()).toHaveLength(2);
    // Nobody listens there in the box.
    const closed = await box.ports.publish({ guestPort: 9 });
    await expect(ask(closed.hostPort)).rejects.toMatchObject({ code: 'ECONNRESET' });

    await box.ports.unpublish(added.hostPort);
    expect(await refusesConnections(added.hostPort)).toBe(true);
    await expect(box.ports.unpublish(added.hostPort)).rejects.toMatchObject({ code: 'not_found' });
    await box.remove({ force: true });
  });

  it('that cannot be had are refused before a box is made', async () => {
    const { runtime } = subject;
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const address = other.address();
    const taken = typeof address === 'object' && address ? address.port : 0;
    const before = (await runtime.list()).length;
    const refused = (port: object) =>
      expect(runtime.create({ image: 'tiny', ports: [{ guestPort: 80 }, port as { guestPort: number }] }))
        .rejects;
    await refused({ guestPort: 80, hostPort: taken }).toMatchObject({
      code: 'already_exists',
      message: `port 127.0.0.1:${taken} of the host is in use`,
    });
    await refused({ guestPort: 0 }).toMatchObject({ code: 'invalid_argument' });
    await refused({ guestPort: 80, hostPort: 70_000 }).toMatchObject({ code: 'invalid_argument' });
    await refused({ guestPort: 80, hostIp: 'localhost' }).toMatchObject({ code: 'invalid_argument' });
    await refused({ guestPort: 80, hostIp: '192.0.2.1' }).toMatchObject({ code: 'invalid_argument' });
    const many = Array.from({ length: 33 }, (_, n) => ({ guestPort: n + 1 }));
    await expect(runtime.create({ image: 'tiny', ports: many })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    expect((await runtime.list()).length).toBe(before);
    other.close();
  });
});
