import { describe, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { partOf } from '../support/part.js';
import { output, TestEngine } from './support.js';

const engine = new TestEngine();

/** More than is ever on its way: what meets the transfer comes before the guest is done. */
const content = Buffer.alloc(4_000_000, 'content ');
const piece = 64 * 1024;

type Reached = () => void;

/** A transfer that has begun, and goes on only when it is let go. */
interface Stalled {
  /** Resolves once bytes have gone over. */
  readonly begun: Promise<void>;
  goOn: Reached;
  /** What came of it: `done`, or the code of its error. */
  readonly outcome: Promise<string>;
}

type Transfer = (box: Box, begun: Reached, gate: Promise<void>) => Promise<unknown>;

const transfers: Readonly<Record<string, Transfer>> = {
  'an upload whose sender is slow': (box, begun, gate) => {
    async function* slowly(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < content.length; at += piece) {
        yield content.subarray(at, at + piece);
        if (at === 4 * piece) {
          begun();
          await gate;
        }
      }
    }
    return box.files.write('/root/t/up', slowly());
  },
  'a download whose reader is slow': async (box, begun, gate) => {
    const read: Uint8Array[] = [];
    for await (const chunk of await box.files.readStream('/root/t/large')) {
      if (read.length === 0) {
        begun();
        await gate;
      }
      read.push(chunk);
    }
    expect(Buffer.concat(read).equals(content)).toBe(true);
  },
  'the packing of a directory whose reader is slow': async (box, begun, gate) => {
    let isFirst = true;
    for await (const _ of await box.files.pack('/root/t')) {
      if (!isFirst) continue;
      isFirst = false;
      begun();
      await gate;
    }
  },
};

function signalled(): [Promise<void>, Reached] {
  let reached: Reached = () => undefined;
  const promise = new Promise<void>((resolve) => {
    reached = resolve;
  });
  return [promise, reached];
}

function stalled(box: Box, transfer: Transfer): Stalled {
  const [begun, begin] = signalled();
  const [gate, goOn] = signalled();
  const outcome = transfer(box, begin, gate).then(
    () => 'done',
    (error: { code?: string }) => error.code ?? String(error),
  );
  // One that fails before it has begun is seen by its outcome.
  const either = Promise.race([begun, outcome.then(() => undefined)]);
  return { begun: either, goOn, outcome };
}

/** What may meet a transfer, and what may come of the transfer then. */
const meetings: Readonly<
  Record<string, { meet(runtime: Runtime, box: Box): Promise<unknown>; outcomes: readonly string[] }>
> = {
  pause: { meet: (_, box) => box.pause(), outcomes: ['done', 'invalid_state'] },
  stop: { meet: (_, box) => box.stop(), outcomes: ['invalid_state'] },
  'a snapshot with memory': {
    meet: (_, box) => box.snapshot.create('s', { memory: true }),
    outcomes: ['done'],
  },
  'the death of the machine': {
    meet: async (_, box) => process.kill((await box.info()).pid ?? 0, 'SIGKILL'),
    outcomes: ['machine_failed'],
  },
  removal: {
    meet: (runtime, box) => runtime.remove(box.id, { force: true }),
    outcomes: ['not_found', 'invalid_state'],
  },
};

const all = Object.keys(meetings).flatMap((what) =>
  Object.keys(transfers).map((name) => [what, name] as const),
);

describe('a transfer', { timeout: 120_000 }, () => {
  it.each(partOf(all, 4))('%s meets %s: both end, and files go on', async (what, name) => {
    const { meet, outcomes } = meetings[what] ?? expect.unreachable();
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    await box.files.write('/root/t/large', content);
    // The death of the machine takes what is not on its disk.
    await output(box, 'sync');
    const transfer = stalled(box, transfers[name] ?? expect.unreachable());
    await transfer.begun;
    const met = meet(runtime, box);
    met.catch(() => undefined);
    // What waits for the transfer is not held up by a reader or sender that never goes on.
    await met;
    transfer.goOn();
    expect(outcomes).toContain(await transfer.outcome);
    if (what === 'removal') return;
    // Nothing brings a failed box up by itself.
    if (what === 'the death of the machine') await box.start();
    expect(await output(box, 'echo again')).toBe('again');
    expect((await box.files.read('/root/t/large')).length).toBe(content.length);
    expect(await output(box, 'ls -a /root | grep -c cryobox- || true')).toBe('0');
    expect(await output(box, 'ls /proc/1/task | wc -l')).toBe('1');
  });
});
