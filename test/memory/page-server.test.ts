import { copyFile, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measure } from '../../src/formats/pages/layer-map.js';
import { encodeDeviceState } from '../../src/formats/qemu-stream/device-state.js';
import type { QmpEvent } from '../../src/machine/qmp.js';
import { type CaptureResult, captureProcess } from '../../src/memory/capture.js';
import { type PageServer, readPageServerLog, startPageServer } from '../../src/memory/page-server.js';
import type { PageServerConfig, PageServerEvent } from '../../src/memory/page-server-config.js';
import { builtEntry } from '../support/built.js';
import type { MiniMachine } from '../support/mini-machine.js';
import { Lab, type Paused } from './lab.js';

const memoryMiB = 128;
let lab: Lab;
let entryPath: string;
let paused: Paused;
let sums: string;

/** A machine supplied by a page server. */
interface Lazy {
  readonly machine: MiniMachine;
  readonly server: PageServer;
  readonly logPath: string;
  /** Waits for an event of the server. */
  seen<E extends PageServerEvent['event']>(event: E): Promise<Extract<PageServerEvent, { event: E }>>;
}

beforeAll(async () => {
  [lab, entryPath] = await Promise.all([Lab.open(memoryMiB), builtEntry('memory/page-server-main.ts')]);
  const running = await lab.resume(lab.golden);
  await running.machine.run(
    'for i in 1 2 3 4; do dd if=/dev/urandom of=/tmp/$i bs=1M count=2 2>/dev/null; done',
  );
  sums = await running.machine.run('md5sum /tmp/[1-4]');
  paused = await lab.pause(running);
});
afterAll(async () => {
  await lab?.close();
});

async function resumeLazily(more: Partial<PageServerConfig> = {}): Promise<Lazy> {
  const machine = await lab.waiting('memory-backend-ram');
  const logPath = join(machine.directory, 'pages.log');
  const server = await startPageServer({ logPath, entryPath });
  const capabilities = ['postcopy-ram', 'events'].map((capability) => ({ capability, state: true }));
  await machine.qmp.execute('migrate-set-capabilities', { capabilities });
  await machine.qmp.execute('migrate-incoming', { uri: 'unix:incoming.sock' });
  // Before the state is there it only asks for a start as soon as it is.
  await machine.qmp.execute('cont');
  const deviceStatePath = join(machine.directory, 'device.state');
  await writeFile(deviceStatePath, encodeDeviceState(paused.deviceSections));
  const layers = paused.map.layers.map((id) => [id, lab.layerPaths(id)]);
  const accept = ({ event }: QmpEvent): boolean => event === 'RESUME';
  await machine.qmp.waitFor({ what: 'the start of the guest', accept }, async () =>
    server.serve({
      socketPath: join(machine.directory, 'incoming.sock'),
      machineType: lab.saved.machineType,
      layerId: paused.map.layers[0] ?? '',
      layers: Object.fromEntries(layers),
      deviceStatePath,
      ...more,
    }),
  );
  const seen: Lazy['seen'] = async (event) => {
    for (;;) {
      const found = (await readPageServerLog(logPath)).find((entry) => entry.event === event);
      if (found) return found as Extract<PageServerEvent, { event: typeof event }>;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { machine, server, logPath, seen };
}

async function kill(lazy: Lazy): Promise<void> {
  await lab.kill(lazy.machine);
  await lazy.server.exited;
}

describe('page server', () => {
  it('lets a guest run with few pages, records them, and gives it the rest', async () => {
    const recordPath = join(lab.directory, 'recorded');
    const lazy = await resumeLazily({ recordPath, backgroundDelayMs: 60_000 });
    expect(await lazy.machine.run('echo hello')).toBe('hello');
    process.kill(lazy.server.pid, 'SIGUSR2');
    const { stats, pages } = await lazy.seen('recorded');
    expect(stats.sentBytes).toBeLessThan(0.07 * memoryMiB * 2 ** 20);
    expect(stats).toMatchObject({ backgroundPages: 0, prefetchedPages: 0, faults: pages });
    const { stats: all } = await lazy.seen('done');
    expect(await lazy.server.exited).toBe(0);
    const held = measure(paused.map.blocks.map((block) => block.extents)).dataBytes / 4096;
    expect(all.answeredPages + all.prefetchedPages + all.backgroundPages).toBe(held);
    expect(await lazy.machine.run('md5sum /tmp/[1-4]')).toBe(sums);
    await lab.kill(lazy.machine);
  });

  it('sends a recorded working set first, and few faults remain', async () => {
    const recordPath = join(lab.directory, 'working-set');
    const first = await resumeLazily({ recordPath, backgroundDelayMs: 60_000 });
    await first.machine.run('echo hello');
    process.kill(first.server.pid, 'SIGUSR2');
    const { pages } = await first.seen('recorded');
    await kill(first);

    const second = await resumeLazily({ workingSetPath: recordPath, recordPath, backgroundDelayMs: 60_000 });
    expect(await second.machine.run('echo hello')).toBe('hello');
    process.kill(second.server.pid, 'SIGUSR2');
    const { stats } = await second.seen('recorded');
    expect(stats.prefetchedPages).toBeGreaterThan(100);
    expect(stats.faults).toBeLessThan(pages / 2);
    await second.seen('done');
    expect(await second.machine.run('md5sum /tmp/[1-4]')).toBe(sums);
    await kill(second);
  });

  it('a damaged working set is done without', async () => {
    const workingSetPath = join(lab.directory, 'damaged-set');
    await writeFile(workingSetPath, 'CBWRKSET and then nothing that fits');
    const lazy = await resumeLazily({ workingSetPath });
    expect(await lazy.machine.run('echo hello')).toBe('hello');
    expect((await lazy.seen('warning')).message).toContain('working set');
    await kill(lazy);
  });

  it('a machine is captured while it is supplied, and after', async () => {
    const lazy = await resumeLazily({ backgroundDelayMs: 60_000 });
    const image = await lab.image(paused.map);
    await lazy.machine.run('dd if=/dev/urandom of=/tmp/5 bs=1M count=1 2>/dev/null');
    const expected = await lazy.machine.run('md5sum /tmp/[1-5]');
    const capture = (layerId: string): Promise<CaptureResult> =>
      captureProcess({
        pid: lazy.machine.pid,
        mapping: { sizeBytes: memoryMiB * 2 ** 20 },
        parent: image,
        paths: lab.layerPaths(layerId),
        layerId,
      });
    await lab.freeze(lazy.machine);
    const during = await capture('lay_during');
    await lazy.machine.qmp.execute('cont');
    process.kill(lazy.server.pid, 'SIGUSR2');
    await lazy.seen('done');
    const deviceSections = await lab.freeze(lazy.machine);
    const after = await capture('lay_after');
    await lab.kill(lazy.machine);
    expect(during.writtenBytes).toBeLessThan(4 * 2 ** 20);
    expect(after.writtenBytes).toBeLessThan(4 * 2 ** 20);
    const again = await lab.resume({ map: after.map, deviceSections });
    expect(await again.machine.run('md5sum /tmp/[1-5]')).toBe(expected);
    await lab.kill(again.machine);
  });

  it('its death is seen: the machine says that its supply has paused', async () => {
    const lazy = await resumeLazily({ backgroundDelayMs: 60_000 });
    const accept = ({ event, data }: QmpEvent): boolean =>
      event === 'MIGRATION' && data.status === 'postcopy-paused';
    await lazy.machine.qmp.waitFor({ what: 'the loss of its page server', accept }, async () => {
      process.kill(lazy.server.pid, 'SIGKILL');
      expect(await lazy.server.exited).toBeNull();
    });
    // Nothing more is asked of it: a vCPU that waits for a page can hold the lock QMP needs.
    await lab.kill(lazy.machine);
  });

  it('it ends when its machine dies, and says so', async () => {
    const lazy = await resumeLazily({ backgroundDelayMs: 60_000 });
    await lab.kill(lazy.machine);
    expect(await lazy.server.exited).toBe(1);
    expect(await lazy.seen('failed')).toMatchObject({ code: 'machine_failed' });
  });

  it('a damaged layer fails it with layer and chunk in its message', async () => {
    const layerId = paused.map.layers[0] ?? '';
    const { map, pages } = lab.layerPaths(layerId);
    const damaged = { map, pages: join(lab.directory, 'damaged') };
    await copyFile(pages, damaged.pages);
    const file = await open(damaged.pages, 'r+');
    await file.write(Buffer.from('damage'), 0, 6, 2 ** 20);
    await file.close();
    const layers = { [layerId]: damaged, golden: lab.layerPaths('golden') };
    const lazy = await resumeLazily({ layers, backgroundDelayMs: 0 });
    expect(await lazy.server.exited).toBe(1);
    const failed = await lazy.seen('failed');
    expect(failed).toMatchObject({ code: 'integrity' });
    expect(failed.message).toContain(`${layerId}: chunk 1`);
    await lab.kill(lazy.machine);
  });

  it('refuses a configuration that is none', async () => {
    const logPath = join(lab.directory, 'refused.log');
    const server = await startPageServer({ logPath, entryPath });
    server.serve({} as PageServerConfig);
    expect(await server.exited).toBe(1);
    expect(await readPageServerLog(logPath)).toMatchObject([{ event: 'failed', code: 'invalid_argument' }]);
  });
});
