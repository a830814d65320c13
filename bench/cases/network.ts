/** Networks of boxes: a gateway next to QEMU's user-mode network, the same guest and servers, taking turns. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Box, NetworkOptions } from '../../src/api/index.js';
import { Outside } from '../../test/engine/outside.js';
import type { BenchCase, NamedCase } from '../harness.js';
import { withEngine } from './runtime.js';

const support = join(import.meta.dirname, '../support');
/** Kinds of use, and how much of it one round is. */
const uses = { connects: 200, sends: 20, receives: 20, parallel: 200 } as const;
/** Everything is allowed, by a gateway. */
const byGateway: NetworkOptions = { allowNet: ['*'] };
const byName: NetworkOptions = { allowNet: ['a.test'] };

interface Net {
  make(network?: NetworkOptions): Promise<Box>;
  readonly address: string;
}

/** A case with servers outside, in a home whose boxes reach them. */
function withNet(
  of: Omit<BenchCase, 'setup'>,
  make: (net: Net) => Promise<{ measure(): Promise<number>; baseline?(): Promise<number> }>,
): BenchCase {
  const setup: BenchCase['setup'] = () =>
    withEngine(0, async (_engine, runtime, home) => {
      const outside = await Outside.start({ script: join(support, 'net-servers.mjs') });
      await outside.useIn(home);
      const client = await readFile(join(support, 'net-client.py'));
      const net: Net = {
        address: outside.address,
        make: async (network) => {
          const box = await runtime.create({ image: 'debian-python', ...(network ? { network } : {}) });
          await box.files.write('/net.py', client);
          return box;
        },
      };
      return { ...(await make(net)), end: () => outside[Symbol.asyncDispose]() };
    });
  return { ...of, setup };
}

/** Milliseconds of one use, as the guest sees them. */
async function useOf(box: Box, kind: keyof typeof uses, host: string): Promise<number> {
  const command = ['python3', '/net.py', kind, host, String(uses[kind])];
  const { stdout, stderr, exitCode } = await box.exec(command, { timeoutMs: 120_000 });
  if (exitCode !== 0) throw new Error(`${kind}: ${stderr}`);
  return Number(stdout);
}

function useCase(
  name: string,
  kind: keyof typeof uses,
  { unit, maxRatio, network = byGateway }: { unit: string; maxRatio: number; network?: NetworkOptions },
): BenchCase {
  return withNet({ name, unit, rounds: 7, maxRatio }, async (net) => {
    const host = network === byName ? 'a.test' : net.address;
    const [ours, theirs] = [await net.make(network), await net.make()];
    await useOf(ours, kind, host);
    await useOf(theirs, kind, net.address);
    return { measure: () => useOf(ours, kind, host), baseline: () => useOf(theirs, kind, net.address) };
  });
}

/** Resident memory of the gateway of a box, in MiB (proc_pid_status(5)). */
async function gatewayMiB(box: Box): Promise<number> {
  const directory = await readlink(`/proc/${(await box.info()).pid}/cwd`);
  for (const entry of await readdir('/proc')) {
    if ((await readlink(`/proc/${entry}/cwd`).catch(() => '')) !== directory) continue;
    const status = await readFile(`/proc/${entry}/status`, 'utf8').catch(() => '');
    if (status.startsWith('Name:\tgateway\n')) return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  }
  throw new Error('there is no gateway');
}

const memory = withNet(
  { name: 'net-gateway-memory', unit: 'MiB after 200 connections and 40 MiB', rounds: 3, maxValue: 8 },
  async (net) => {
    const box = await net.make(byGateway);
    return {
      measure: async () => {
        for (const kind of ['parallel', 'sends', 'receives'] as const) await useOf(box, kind, net.address);
        return await gatewayMiB(box);
      },
    };
  },
);

const echo = `
import socket
server = socket.create_server(("127.0.0.1", 7000))
print("ready", flush=True)
client, _ = server.accept()
while data := client.recv(64):
    client.sendall(data)
`;

const portLatency = withNet(
  { name: 'net-port-latency', unit: 'ms, echo of a byte over box.dial', rounds: 300, maxValue: 1 },
  async (net) => {
    const box = await net.make();
    const server = await box.startExec(['python3', '-c', echo]);
    await server.stdout[Symbol.asyncIterator]().next();
    const socket = await box.dial(7000);
    return {
      measure: async () => {
        const began = performance.now();
        const answer = new Promise((resolve) => socket.once('data', resolve));
        socket.write('x');
        await answer;
        return performance.now() - began;
      },
    };
  },
);

/** What a start takes longer with a gateway: both without a machine that waits. */
const create = withNet({ name: 'net-create', unit: 'ms', rounds: 9 }, async (net) => {
  const started = async (network?: NetworkOptions): Promise<number> => {
    const box = await net.make(network);
    const { stages } = await box.info();
    await box.remove({ force: true });
    return stages.total ?? 0;
  };
  return { measure: () => started(byGateway), baseline: () => started() };
});

const userNetwork = 'the same guest on -netdev user';

export const networkCases: readonly NamedCase[] = [
  { bench: useCase('net-tx', 'sends', { unit: 'ms, 20 MiB out', maxRatio: 1 }), baseline: userNetwork },
  { bench: useCase('net-rx', 'receives', { unit: 'ms, 20 MiB in', maxRatio: 1 }), baseline: userNetwork },
  { bench: useCase('net-connect', 'connects', { unit: 'ms', maxRatio: 1.2 }), baseline: userNetwork },
  {
    bench: useCase('net-connect-allow', 'connects', { unit: 'ms', maxRatio: 1.3, network: byName }),
    baseline: userNetwork,
  },
  {
    bench: useCase('net-par-200', 'parallel', { unit: 'ms, 200 at once', maxRatio: 1 }),
    baseline: userNetwork,
  },
  { bench: create, baseline: userNetwork },
  { bench: memory, baseline: '' },
  { bench: portLatency, baseline: '' },
];
