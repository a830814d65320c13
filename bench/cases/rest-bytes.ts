/** Hundreds of MB over TCP: issue "The REST server and the remote runtime", Speed. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Box, ByteSource } from '../../src/api/index.js';
import type { BenchCase, NamedCase } from '../harness.js';
import { type BothSides, onBothSides } from '../support/both-sides.js';
import { sampleBytes } from '../support/sample-bytes.js';
import { timed } from './runtime.js';

const image = 'tiny';
const copiedMiB = 200;
const inBox = '/root/sample';

/** A throughput of at least a part of the embedded one's is at most so many times its time. */
const timesFor = (part: number): number => Number((1 / part).toFixed(3));

interface Copies {
  readonly far: Box;
  readonly near: Box;
  /** A file of the host with sample bytes. */
  readonly sample: string;
}

/** A running box on each side, and a file to copy. */
async function withCopies({ remote, embedded, directory }: BothSides): Promise<Copies> {
  const sample = join(directory, 'sample');
  await using file = await open(sample, 'wx');
  for (const piece of sampleBytes(copiedMiB)) await file.writeFile(piece);
  const [far, near] = await Promise.all([remote.create({ image }), embedded.create({ image })]);
  for (const box of [far, near]) await box.files.copyIn(sample, inBox);
  return { far, near, sample };
}

const copyIn: BenchCase = {
  name: 'rest-copy-in',
  unit: 'ms for 200 MB',
  rounds: 5,
  maxRatio: timesFor(0.7),
  setup: () =>
    onBothSides(async (sides) => {
      const { far, near, sample } = await withCopies(sides);
      const copy = (box: Box) => timed(() => box.files.copyIn(sample, inBox));
      return { measure: () => copy(far), baseline: () => copy(near) };
    }),
};

const copyOut: BenchCase = {
  name: 'rest-copy-out',
  unit: 'ms for 200 MB',
  rounds: 5,
  maxRatio: timesFor(0.7),
  setup: () =>
    onBothSides(async (sides) => {
      const { far, near } = await withCopies(sides);
      const target = join(sides.directory, 'out');
      const copy = async (box: Box) => {
        await rm(target, { force: true });
        return timed(() => box.files.copyOut(inBox, target));
      };
      return { measure: () => copy(far), baseline: () => copy(near) };
    }),
};

async function drain(bytes: ByteSource): Promise<void> {
  for await (const _ of bytes);
}

const exported: BenchCase = {
  name: 'rest-export',
  unit: 'ms for 200 MB',
  rounds: 5,
  maxRatio: timesFor(0.9),
  setup: () =>
    onBothSides(async (sides) => {
      const { far, near } = await withCopies(sides);
      for (const box of [far, near]) {
        await box.exec(['sync']);
        await box.stop();
      }
      const stream = (box: Box) => timed(async () => drain(await box.exportStream()));
      return { measure: () => stream(far), baseline: () => stream(near) };
    }),
};

/** Bytes over TCP. */
export const restByteCases: readonly NamedCase[] = [
  { bench: copyIn, baseline: 'the embedded SDK' },
  { bench: copyOut, baseline: 'the embedded SDK' },
  { bench: exported, baseline: 'the embedded SDK' },
];
