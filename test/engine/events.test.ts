import { expect, it } from 'vitest';
import type { RuntimeEvent } from '../../src/api/index.js';
import { EventLog, Events } from '../../src/engine/core/events.js';

const box = (id: string) => ({ kind: 'box', id, change: 'created' }) as const;
const never = new AbortController().signal;

async function take(events: AsyncGenerator<RuntimeEvent>, count: number): Promise<RuntimeEvent[]> {
  const taken: RuntimeEvent[] = [];
  while (taken.length < count) {
    const next = await events.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

it('gives a reader what happens after it was asked for, not only after its first read', async () => {
  const log = new EventLog();
  log.add(box('before'));
  const events = log.read(undefined, never);
  log.add(box('a'));
  log.add(box('b'));
  expect((await take(events, 2)).map(({ id }) => id)).toEqual(['a', 'b']);
});

it('goes on after a position, and tells nothing of other tenants', async () => {
  const events = new Events();
  const reader = events.of('acme').read(undefined, never);
  for (const id of ['a', 'b', 'c']) {
    events.of('acme').add(box(id));
    events.of('beta').add(box(`other-${id}`));
  }
  const [first, second] = await take(reader, 2);
  const again = events.of('acme').read(first?.position, never);
  expect((await take(again, 2)).map(({ id }) => id)).toEqual(['b', 'c']);
  const number = (event?: RuntimeEvent) => Number(event?.position.split('.')[1]);
  expect(number(second) - number(first)).toBe(1);
  await expect(events.of('beta').read(first?.position, never).next()).rejects.toMatchObject({
    code: 'position_gone',
  });
});

it('wakes a reader that waits, and ends one whose signal aborts', async () => {
  const log = new EventLog();
  const stop = new AbortController();
  const reader = log.read(undefined, stop.signal);
  const waiting = reader.next();
  log.add(box('late'));
  expect((await waiting).value).toMatchObject({ id: 'late' });
  const ended = reader.next();
  stop.abort();
  expect((await ended).done).toBe(true);
});

it('says so when events after a position are no longer kept', async () => {
  const log = new EventLog({ maxKept: 3 });
  const slow = log.read(undefined, never);
  log.add(box('0'));
  const [first] = await take(slow, 1);
  for (const id of ['1', '2', '3']) log.add(box(id));
  const whole = log.read(first?.position, never);
  expect((await take(whole, 3)).map(({ id }) => id)).toEqual(['1', '2', '3']);
  log.add(box('4'));
  await expect(slow.next()).rejects.toMatchObject({ code: 'position_gone' });
  await expect(log.read(first?.position, never).next()).rejects.toMatchObject({ code: 'position_gone' });
});

it('lets go of events that are too old', async () => {
  const log = new EventLog({ maxAgeMs: -1 });
  const reader = log.read(undefined, never);
  log.add(box('old'));
  await expect(reader.next()).rejects.toMatchObject({ code: 'position_gone' });
});

it('refuses positions of another run and text that is none', async () => {
  const log = new EventLog();
  const other = new EventLog();
  const reader = other.read(undefined, never);
  other.add(box('a'));
  const [event] = await take(reader, 1);
  await expect(log.read(event?.position, never).next()).rejects.toMatchObject({ code: 'position_gone' });
  for (const wrong of ['', '1', 'run_a', '../x', '1e9']) {
    await expect(log.read(wrong, never).next()).rejects.toMatchObject({ code: 'invalid_argument' });
  }
});

it('keeps a long log in order while it is cut', async () => {
  const log = new EventLog({ maxKept: 100 });
  const reader = log.read(undefined, never);
  for (let index = 0; index < 5_000; index += 1) {
    log.add(box(String(index)));
    expect((await reader.next()).value.id).toBe(String(index));
  }
});
