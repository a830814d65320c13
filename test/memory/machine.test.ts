import { once } from 'node:events';
import { open, readFile, stat } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { EXTENT_WORDS } from '../../src/formats/pages/extents.js';
import { FLAT_ABOVE_BYTES } from '../../src/formats/pages/layer-map.js';
import { localLayers } from '../../src/formats/pages/local-layer.js';
import { MemoryImage } from '../../src/formats/pages/memory-image.js';
import { mergeLayers } from '../../src/formats/pages/merge.js';
import { planResume } from '../../src/formats/pages/resume.js';
import { verifyLayer } from '../../src/formats/pages/verify.js';
import { canReadProcess } from '../../src/memory/process-memory.js';
import { captureStream } from '../../src/memory/stream-capture.js';
import type { MiniMachine } from '../support/mini-machine.js';
import { Lab, type Paused } from './lab.js';

const memoryMiB = 192;
let lab: Lab;

beforeAll(async () => {
  lab = await Lab.open(memoryMiB);
});
afterAll(async () => {
  await lab?.close();
});

const fill = (name: string, mebibytes: number): string =>
  `dd if=/dev/urandom of=/tmp/${name} bs=1M count=${mebibytes} 2>/dev/null`;
const sum = (machine: MiniMachine, name: string): Promise<string> => machine.run(`md5sum < /tmp/${name}`);

/** The whole memory of an image. */
async function contentOf(paused: Paused): Promise<Buffer> {
  const image = await lab.image(paused.map);
  const parts = image.blocks.map(async (block, index) => {
    const target = Buffer.alloc(block.sizeBytes);
    await image.read(index, 0, block.sizeBytes / 4096, target);
    return target;
  });
  return Buffer.concat(await Promise.all(parts));
}

/** QEMU's stream of a stopped machine, all memory in it. */
async function migrationOf(machine: MiniMachine): Promise<{ stream: Socket; done: () => Promise<void> }> {
  const server = createServer().listen(join(machine.directory, 'outgoing.sock'));
  await once(server, 'listening');
  const connected = once(server, 'connection');
  const off = [{ capability: 'x-ignore-shared', state: false }];
  await machine.qmp.execute('migrate-set-capabilities', { capabilities: off });
  await machine.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 33 });
  await machine.qmp.execute('migrate', { uri: 'unix:outgoing.sock' });
  const [stream] = (await connected) as [Socket];
  const done = async (): Promise<void> => {
    server.close();
    const { status } = await machine.qmp.query('query-migrate', z.object({ status: z.string() }));
    expect(status).toBe('completed');
  };
  return { stream, done };
}

describe('memory of a machine', () => {
  it('the golden layer is what the machine had, with holes for its zeros', async () => {
    const { map } = lab.golden;
    expect(map).toMatchObject({ form: 'flat', generation: 0, layers: ['golden'] });
    expect(lab.saved.machineType).toBe('pc-q35-7.2');
    expect(map.blocks[0]).toMatchObject({ name: 'mem', sizeBytes: memoryMiB * 2 ** 20 });
    expect(map.blocks.map((block) => block.name)).toContain('pc.bios');
    await expect(verifyLayer(lab.layerPaths('golden'), 'golden')).resolves.toBe(map.dataBytes);
    const { blocks, size } = await stat(lab.layerPaths('golden').pages);
    expect(blocks * 512).toBeLessThan(size);
  });

  it('keeps content over three generations, each holding only what changed', async () => {
    let running = await lab.resume(lab.golden);
    await running.machine.run(`${fill('a', 6)}; echo 41 > /tmp/counter`);
    const sums = [await sum(running.machine, 'a')];
    let paused = await lab.pause(running);
    expect(paused.result.writtenBytes).toBeGreaterThan(6 * 2 ** 20);

    for (const generation of [2, 3]) {
      running = await lab.resume(paused);
      await running.machine.run(fill(`f${generation}`, 1));
      sums.push(await sum(running.machine, `f${generation}`));
      paused = await lab.pause(running);
      expect(paused.map.generation).toBe(generation);
      expect(paused.map.layers).toHaveLength(generation + 1);
      // One MiB of file and what a shell touches; not the six MiB of the generation before.
      expect(paused.result.writtenBytes).toBeLessThan(4 * 2 ** 20);
    }
    running = await lab.resume(paused);
    expect(await sum(running.machine, 'a')).toBe(sums[0]);
    expect(await sum(running.machine, 'f2')).toBe(sums[1]);
    expect(await sum(running.machine, 'f3')).toBe(sums[2]);
    expect(await running.machine.run('cat /tmp/counter')).toBe('41');
    await lab.kill(running.machine);
  });

  it('a capture at once after a resume writes next to nothing', async () => {
    const first = await lab.resume(lab.golden);
    await first.machine.run(fill('a', 4));
    const paused = await lab.pause(first);
    const second = await lab.resume(paused);
    const again = await lab.pause(second);
    expect(again.result.comparedPages).toBeGreaterThan(1024);
    expect(again.result.writtenBytes).toBeLessThan(2 ** 20);
  });

  it('both ways of capture make the same layer, and its content is the machine’s', async () => {
    const running = await lab.resume(lab.golden);
    await running.machine.run(
      `${fill('a', 3)}; ${fill('b', 2)}; dd if=/dev/zero of=/tmp/b bs=1M count=2 2>/dev/null`,
    );
    expect(canReadProcess(running.machine.pid)).toBe(true);
    await lab.freeze(running.machine);
    const packed = await lab.capture(running, { layerId: 'lay_same' });
    const flat = await lab.capture(running, { layerId: 'lay_flat', form: 'flat' });

    const { stream, done } = await migrationOf(running.machine);
    const streamed = await captureStream({
      stream,
      parent: running.image,
      paths: lab.layerPaths('streamed'),
      layerId: 'lay_same',
    });
    await done();
    expect(streamed.map).toEqual(packed.map);
    const [one, other] = await Promise.all(
      ['lay_same', 'streamed'].map((name) => readFile(lab.layerPaths(name).pages)),
    );
    expect(one?.equals(other ?? Buffer.alloc(0))).toBe(true);
    expect(streamed.deviceSections.length).toBeGreaterThan(10_000);

    const [fromPacked, fromFlat] = [packed, flat].map(({ map }) =>
      contentOf({ map, deviceSections: streamed.deviceSections }),
    );
    expect((await fromPacked)?.equals((await fromFlat) ?? Buffer.alloc(0))).toBe(true);
    await lab.kill(running.machine);

    const again = await lab.resume({ map: streamed.map, deviceSections: streamed.deviceSections });
    expect(await again.machine.run('cmp -n 2097152 /tmp/b /dev/zero && echo zeros')).toBe('zeros');
    await lab.kill(again.machine);
  });

  it('a machine maps a flat layer captured or merged, and streams only what is missing there', async () => {
    const first = await lab.resume(lab.golden);
    await first.machine.run(fill('a', 5));
    const expected = await sum(first.machine, 'a');
    const packed = await lab.pause(first);

    const [base] = lab.flats;
    if (!base) throw new Error('there is no golden machine');
    const image = await lab.image(packed.map);
    const { streamBytes } = planResume(packed.map, lab.flats);
    expect(streamBytes).toBeGreaterThan(5 * 2 ** 20);
    const small = await mergeLayers({
      image,
      base,
      differenceBytes: streamBytes,
      paths: lab.layerPaths('small'),
      layerId: 'small',
    });
    expect(small).toMatchObject({ form: 'packed', generation: 1, layers: ['small', 'golden'] });
    const merged = await mergeLayers({
      image,
      base,
      differenceBytes: FLAT_ABOVE_BYTES + 1,
      paths: lab.layerPaths('merged'),
      layerId: 'merged',
    });
    expect(merged).toMatchObject({ form: 'flat', generation: 0, layers: ['merged'] });
    for (const id of ['small', 'merged']) await verifyLayer(lab.layerPaths(id), id);
    const expectedContent = await contentOf(packed);
    for (const map of [small, merged])
      expect((await contentOf({ ...packed, map })).equals(expectedContent)).toBe(true);
    const candidates = [merged];

    const second = await lab.resume({ ...packed, map: merged }, candidates);
    expect(second.plan).toMatchObject({ baseLayerId: 'merged' });
    expect(second.plan.extents[0]).toHaveLength(0);
    expect(await sum(second.machine, 'a')).toBe(expected);
    await second.machine.run(fill('b', 1));
    const flat = await lab.pause(second, { form: 'flat' });
    expect(flat.map).toMatchObject({ form: 'flat', generation: 0 });
    const third = await lab.resume(flat, [flat.map]);
    expect(third.plan.extents[0]).toHaveLength(0);
    expect(await sum(third.machine, 'a')).toBe(expected);
    await lab.kill(third.machine);
  });

  it('a large difference is written flat, unless the parent is larger', async () => {
    const running = await lab.resume(lab.golden);
    await running.machine.run(fill('a', 4));
    await running.machine.qmp.execute('stop');
    const small = await lab.capture(running, { flatAboveBytes: 2 ** 20 });
    expect(small.map.form).toBe('packed');
    await running.machine.qmp.execute('cont');
    await running.machine.run(
      'tr "\\0" x < /dev/zero | dd of=/tmp/b bs=1M count=96 iflag=fullblock 2>/dev/null',
    );
    const expected = await sum(running.machine, 'b');
    const large = await lab.pause(running);
    expect(large.map.form).toBe('flat');
    const again = await lab.resume(large, [large.map]);
    expect(again.sent.pages).toBeLessThan(256);
    expect(await sum(again.machine, 'b')).toBe(expected);
    await lab.kill(again.machine);
  });

  it('a captured machine goes on, and a child starts from the capture', async () => {
    const parent = await lab.resume(lab.golden);
    await parent.machine.run('echo parent > /tmp/who');
    const deviceSections = await lab.freeze(parent.machine);
    const { map } = await lab.capture(parent);
    await parent.machine.qmp.execute('cont');
    const child = await lab.resume({ map, deviceSections });
    await child.machine.run('echo child > /tmp/who');
    expect(await parent.machine.run('cat /tmp/who')).toBe('parent');
    expect(await child.machine.run('cat /tmp/who')).toBe('child');
    await Promise.all([lab.kill(parent.machine), lab.kill(child.machine)]);
  });
});

describe('damage and failure', () => {
  it('a flipped byte is found on resume and by verify, with layer and chunk', async () => {
    const running = await lab.resume(lab.golden);
    await running.machine.run(fill('a', 3));
    const paused = await lab.pause(running);
    const layerId = paused.map.layers[0] ?? '';
    const path = lab.layerPaths(layerId).pages;
    const file = await open(path, 'r+');
    await file.write(Buffer.from([0xff, 0, 0xff]), 0, 3, 2 ** 20 + 77);
    await file.close();
    const damage = { code: 'integrity', details: { layer: layerId, chunk: 1 } };
    await expect(verifyLayer(lab.layerPaths(layerId), layerId)).rejects.toMatchObject(damage);
    await expect(lab.resume(paused)).rejects.toMatchObject(damage);
  });

  it('a data file cut short is an integrity error', async () => {
    const running = await lab.resume(lab.golden);
    await running.machine.run(fill('a', 1));
    const paused = await lab.pause(running);
    const layerId = paused.map.layers[0] ?? '';
    const file = await open(lab.layerPaths(layerId).pages, 'r+');
    await file.truncate(4096);
    await file.close();
    await expect(verifyLayer(lab.layerPaths(layerId), layerId)).rejects.toMatchObject({
      code: 'integrity',
    });
    await expect(lab.resume(paused)).rejects.toMatchObject({ code: 'integrity' });
  });

  it('a missing layer is an integrity error', async () => {
    const map = { ...lab.golden.map, layers: ['lay_gone'] };
    await expect(MemoryImage.open(map, localLayers(lab.layerPaths))).rejects.toMatchObject({
      code: 'integrity',
    });
  });

  it('a failed capture leaves no layer and the machine unharmed', async () => {
    const running = await lab.resume(lab.golden);
    await running.machine.qmp.execute('stop');
    const sizeBytes = memoryMiB * 2 ** 20 * 2;
    const paths = lab.layerPaths('lay_failed');
    const mapping = { file: lab.layerPaths('golden').pages, sizeBytes };
    await expect(lab.capture(running, { layerId: 'lay_failed', mapping })).rejects.toMatchObject({
      code: 'machine_failed',
    });
    await expect(stat(paths.pages)).rejects.toMatchObject({ code: 'ENOENT' });
    const { stream } = await migrationOf(running.machine);
    const broken = (async function* cut() {
      yield stream.read(1000) ?? ((await once(stream, 'data'))[0] as Buffer).subarray(0, 1000);
      stream.destroy();
    })();
    const cut = captureStream({ stream: broken, parent: running.image, paths, layerId: 'lay_failed' });
    await expect(cut).rejects.toMatchObject({ code: 'machine_failed' });
    await expect(stat(paths.pages)).rejects.toMatchObject({ code: 'ENOENT' });
    await running.machine.qmp.execute('cont');
    expect(await running.machine.run('echo alive')).toBe('alive');
    await lab.kill(running.machine);
  });

  it('no map has extents it does not need', () => {
    for (const block of lab.golden.map.blocks) {
      const { extents } = block;
      for (let at = EXTENT_WORDS; at < extents.length; at += EXTENT_WORDS)
        expect(extents[at] === 0 && extents[at + 2] === extents[at - 2]).toBe(false);
    }
  });
});
