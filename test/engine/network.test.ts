import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { outsideAddress } from './outside-address.js';
import { TestEngine } from './support.js';

const engine = new TestEngine();

/** A web server on all of this host's addresses. */
let server: Server;
let port = 0;

beforeAll(async () => {
  server = createServer((_request, response) => response.end('reached'));
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});

afterAll(() => server.close());

async function fetchFrom(box: Box, host: string): Promise<string> {
  const { stdout } = await box.exec(['wget', '-q', '-O', '-', `http://${host}:${port}/`], {
    timeoutMs: 20_000,
  });
  return stdout.toString();
}

describe('outbound enabled', () => {
  it('reaches other hosts right after the restore', async () => {
    await using box = await engine.runtime.create({ image: 'tiny' });
    expect(await fetchFrom(box, outsideAddress())).toBe('reached');
    const address = (await box.exec(['ip', '-o', 'addr', 'show', 'eth0'])).stdout.toString();
    expect(address).toContain('10.0.2.15/24');
  });

  it('does not reach services on the loopback of the host, nor link-local addresses', async () => {
    await using box = await engine.runtime.create({ image: 'tiny' });
    for (const host of ['10.0.2.2', '10.0.2.4', '169.254.169.254']) {
      expect(await fetchFrom(box, host), host).toBe('');
    }
    // The host's loopback, addressed from inside by its own name and sent out by the network card.
    await box.exec(['sh', '-c', 'ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.0.2.2']);
    expect(await fetchFrom(box, '127.0.0.1')).toBe('');
  });

  it('gives each box an address of its own on the wire', async () => {
    await using one = await engine.runtime.create({ image: 'tiny' });
    await using two = await engine.runtime.create({ image: 'tiny' });
    const macOf = async (box: Box): Promise<string> =>
      (await box.files.read('/sys/class/net/eth0/address')).toString();
    expect(await macOf(one)).not.toBe(await macOf(two));
  });
});

describe('outbound disabled', () => {
  it('reaches nothing', async () => {
    await using box = await engine.runtime.create({ image: 'tiny', network: { outbound: 'disabled' } });
    expect(await fetchFrom(box, outsideAddress())).toBe('');
    expect((await box.info()).network.outbound).toBe('disabled');
  });
});
