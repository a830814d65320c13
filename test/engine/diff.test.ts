import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import type { Box, DiffOptions, FileChange } from '../../src/api/index.js';
import { changes as changesBetween, raw } from '../ext4/support.js';
import { qemuImg } from '../support/qemu-tools.js';
import { diskChain } from './disk-files.js';
import { output, TestEngine } from './support.js';

const engine = new TestEngine();

interface Fact {
  readonly type: string;
  readonly kind: number;
  readonly size: number;
  readonly content: string;
  readonly metadata: unknown;
}

type Facts = Readonly<Record<string, Fact>>;

async function truth(box: Box, what: 'make' | 'change' | 'facts'): Promise<string> {
  return await output(box, `python3 -B -E -S /root/truth.py ${what}`);
}

async function facts(box: Box): Promise<Facts> {
  return JSON.parse(await truth(box, 'facts')) as Facts;
}

/** What differs between what a box said of its files at two times. */
function expected(before: Facts, after: Facts): Map<string, Omit<FileChange, 'path'>> {
  const found = new Map<string, Omit<FileChange, 'path'>>();
  for (const path of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [one, other] = [before[path], after[path]];
    const kind = kindOf(one, other);
    if (kind === undefined) continue;
    found.set(path, {
      kind,
      typeBefore: (one?.type ?? null) as FileChange['typeBefore'],
      typeAfter: (other?.type ?? null) as FileChange['typeAfter'],
      sizeBefore: one?.size ?? null,
      sizeAfter: other?.size ?? null,
    });
  }
  return found;
}

function kindOf(one: Fact | undefined, other: Fact | undefined): FileChange['kind'] | undefined {
  if (!one) return 'added';
  if (!other) return 'removed';
  if (one.kind !== other.kind) return 'type';
  const isSized = one.type !== 'directory';
  if (one.content !== other.content || (isSized && one.size !== other.size)) return 'modified';
  return JSON.stringify(one.metadata) === JSON.stringify(other.metadata) ? undefined : 'metadata';
}

async function all(box: Box, options: DiffOptions): Promise<FileChange[]> {
  const found: FileChange[] = [];
  let page = await box.diff(options);
  found.push(...page.changes);
  while (page.next !== null) {
    page = await box.diff({ ...options, after: page.next });
    found.push(...page.changes);
  }
  return found;
}

const byPath = (found: readonly FileChange[]): Map<string, Omit<FileChange, 'path'>> =>
  new Map(found.map(({ path, ...rest }) => [path, rest]));

it('tells of every file that a box changed, and of no other', { timeout: 240_000 }, async () => {
  const box = await engine.runtime.create({ image: 'debian-python', name: 'changed', detach: true });
  const script = await readFile(join(import.meta.dirname, 'diff-truth.py'));
  await box.files.write('/root/truth.py', script);
  await truth(box, 'make');
  const before = await facts(box);
  await box.snapshot.create('before');
  await truth(box, 'change');
  const after = await facts(box);
  await box.snapshot.create('after');
  const wanted = expected(before, after);
  expect(wanted.size).toBeGreaterThan(500);
  const found = await all(box, { from: 'before', to: 'after' });
  expect(byPath(found)).toEqual(wanted);
  expect(await all(box, { from: 'before', to: 'after', limit: 7 })).toEqual(found);
  expect(await box.diff({ from: 'after', to: 'after' })).toEqual({ changes: [], next: null });

  // What only the journal has yet, and what a killed machine left.
  await expect(box.diff({ from: 'before' })).rejects.toMatchObject({ code: 'invalid_state' });
  await output(
    box,
    'cd /root/work && rm -r d1 d2 && for i in $(seq 200); do echo $i > late-$i; done; sync -f .',
  );
  process.kill((await box.info()).pid ?? 0, 'SIGKILL');
  await expect.poll(async () => (await box.info()).status, { timeout: 30_000 }).toBe('failed');
  const killed = await all(box, { from: 'after' });
  expect(killed.filter(({ path }) => /late-/.test(path)).map(({ kind }) => kind)).toEqual(
    Array.from({ length: 200 }, () => 'added'),
  );
  expect(byPath(killed).get('/root/work/d1')).toMatchObject({ kind: 'removed' });
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-diff-'));
  try {
    const [head] = (await diskChain(engine.home, box.id)).toReversed();
    const [now, then] = [join(directory, 'now'), join(directory, 'then')];
    await qemuImg('convert', '-O', 'raw', join(engine.home, 'layers', head ?? ''), now);
    const { stdout } = await execa('dumpe2fs', ['-h', now]);
    expect(stdout).toContain('needs_recovery');
    // The same disk, its journal replayed by the reference.
    await execa('cp', ['--sparse=always', now, then]);
    const replay = ['-E', 'journal_only', '-y', then];
    await execa('e2fsck', replay, { reject: false, timeout: 60_000 });
    expect((await execa('dumpe2fs', ['-h', then])).stdout).not.toContain('needs_recovery');
    expect(await changesBetween(raw(now), raw(then))).toEqual([]);
  } finally {
    await rm(directory, { recursive: true });
  }
  await box.remove({ force: true });
});

it('compares a box with its image, its clones and itself, and refuses what cannot be compared', {
  timeout: 120_000,
}, async () => {
  const { runtime } = engine;
  const box = await runtime.create({ image: 'tiny', name: 'one', detach: true });
  await box.files.write('/etc/of-box', 'x');
  await expect(box.diff()).rejects.toMatchObject({
    code: 'invalid_state',
    hint: expect.stringContaining('cryobox snapshot create'),
  });
  await box.snapshot.create('s@1');
  expect(byPath(await all(box, { to: 's@1' })).get('/etc/of-box')).toMatchObject({ kind: 'added' });
  await box.stop();
  const ofImage = await all(box, {});
  expect(byPath(ofImage).get('/etc/of-box')).toMatchObject({ kind: 'added', sizeAfter: 1 });
  const clone = await box.clone('two', { cow: false });
  expect(await all(clone, {})).toEqual(ofImage);
  expect(await all(box, { from: {}, to: { box: 'two' } })).toEqual([]);
  expect(await all(clone, { from: { box: 'one', snapshot: 's@1' }, to: {} })).toEqual(
    await all(box, { from: 's@1' }),
  );
  await box.start();
  await box.files.remove('/etc/of-box');
  // What the guest has not written yet is in its memory.
  await output(box, 'sync');
  await box.pause();
  expect(byPath(await all(box, { from: { box: 'two' } })).get('/etc/of-box')).toMatchObject({
    kind: 'removed',
  });

  const other = await runtime.create({ image: 'debian-python', name: 'other', detach: true });
  await other.snapshot.create('s');
  for (const [options, code] of [
    [{ from: 'none' }, 'not_found'],
    [{ to: { box: 'none' } }, 'not_found'],
    [{ to: { box: 'other', snapshot: 's' } }, 'invalid_argument'],
    [{ from: { snap: 's@1' } }, 'invalid_argument'],
    [{ from: 7 }, 'invalid_argument'],
    [{ after: 'nowhere' }, 'invalid_argument'],
    [{ limit: 0 }, 'invalid_argument'],
    [{ fro: 's@1' }, 'invalid_argument'],
  ] as const) {
    await expect(box.diff(options as DiffOptions), JSON.stringify(options)).rejects.toMatchObject({ code });
  }
  for (const each of [box, clone, other]) await each.remove({ force: true });
});
