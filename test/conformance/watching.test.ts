import { expect, it } from 'vitest';
import type { FileEvent, FileWatch } from '../../src/api/index.js';
import { conformance } from './support.js';

/** Reads a watch until an event fits, or it ends; gives what came. */
async function until(watch: FileWatch, fits: (event: FileEvent) => boolean): Promise<FileEvent[]> {
  const events: FileEvent[] = [];
  const iterator = watch[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await iterator.next();
    if (done) return events;
    events.push(value);
    if (fits(value)) return events;
  }
}

const named = (path: string) => (event: FileEvent) => event.path === path;
const words = (events: readonly FileEvent[]): string[] =>
  events.map(({ type, path, to }) => [type, path, ...(to === undefined ? [] : [to])].join(' '));

conformance('watching', (subject) => {
  it('tells what becomes of files', async () => {
    const { box } = subject;
    await box.files.makeDirectory('/w/one');
    await using watch = await box.files.watch('/w/one/');
    await box.files.write('/w/one/a', 'some');
    await box.files.write('/w/one/a', 'other');
    await box.exec(
      'cd /w/one && chmod 700 a && mv a b && mv b /w/out && mkdir d && echo x > d/deep && echo line >> c && rm c && touch end',
      { check: true },
    );
    expect(words(await until(watch, named('/w/one/end')))).toEqual([
      'created /w/one/a',
      'written /w/one/a',
      'written /w/one/a',
      'attributes /w/one/a',
      'renamed /w/one/a /w/one/b',
      'removed /w/one/b',
      'created /w/one/d',
      'created /w/one/c',
      'written /w/one/c',
      'removed /w/one/c',
      'created /w/one/end',
    ]);
  });

  it('tells of directories below, also of new ones, when it is asked to', async () => {
    const { box } = subject;
    await box.files.makeDirectory('/w/two/there/deep');
    await using watch = await box.files.watch('/w/two', { recursive: true });
    const told: FileEvent[] = [];
    const step = async (script: string, last: string): Promise<void> => {
      await box.exec(`cd /w/two && ${script}`, { check: true });
      told.push(...(await until(watch, named(`/w/two/${last}`))));
    };
    await step('touch there/deep/a && mkdir -p new/er && echo x > new/er/b', 'new/er/b');
    await step('mv new there/moved', 'new');
    await step('touch there/moved/er/c', 'there/moved/er/c');
    await step('rm -r there/moved', 'there/moved');
    expect(words(told)).toEqual(
      expect.arrayContaining([
        'created /w/two/there/deep/a',
        'created /w/two/new',
        'created /w/two/new/er',
        'created /w/two/new/er/b',
        'renamed /w/two/new /w/two/there/moved',
        'created /w/two/there/moved/er/c',
        'removed /w/two/there/moved/er/c',
        'removed /w/two/there/moved/er',
        'removed /w/two/there/moved',
      ]),
    );
    expect(told.find(({ type }) => type === 'renamed')).toEqual({
      type: 'renamed',
      path: '/w/two/new',
      to: '/w/two/there/moved',
      isDirectory: true,
    });
  });

  it('follows a link to the directory, and knows names that are no UTF-8', async () => {
    const { box } = subject;
    await box.exec('mkdir -p /w/three && ln -s three /w/link', { check: true });
    await using watch = await box.files.watch('/w/link');
    await box.exec('touch "/w/three/a b"; touch "/w/three/$(printf \'\\377\')"', { check: true });
    const last = (await until(watch, named('/w/link/\udcff'))).at(-1);
    expect(last).toMatchObject({ type: 'created', isDirectory: false });
  });

  it('ends when it is closed, when its signal is raised, and when nobody reads on', async () => {
    const { box } = subject;
    await box.files.makeDirectory('/w/four');
    const closed = await box.files.watch('/w/four');
    const reading = until(closed, () => false);
    await closed.close();
    await closed.close();
    expect(await reading).toEqual([]);

    const controller = new AbortController();
    const given = await box.files.watch('/w/four', { signal: controller.signal });
    const other = until(given, () => false);
    controller.abort();
    expect(await other).toEqual([]);

    // Far more than a box has at once: each is gone before the next.
    for (let turn = 0; turn < 40; turn += 1) {
      const watch = await box.files.watch('/w/four');
      if (turn % 2 === 0) await watch.close();
      else {
        await box.exec(['touch', `/w/four/${turn}`]);
        for await (const { path } of watch) {
          expect(path).toBe(`/w/four/${turn}`);
          break;
        }
      }
    }
  });

  it('ends when the directory is removed', async () => {
    const { box } = subject;
    await box.files.makeDirectory('/w/five/sub');
    await using watch = await box.files.watch('/w/five', { recursive: true });
    await box.files.remove('/w/five', { recursive: true });
    const events = await until(watch, () => false);
    expect(words(events)).toEqual(['removed /w/five/sub', 'removed /w/five']);
  });

  it('refuses what cannot be watched', async () => {
    const { files } = subject.box;
    await files.write('/w/file', 'x');
    await expect(files.watch('/w/nothing')).rejects.toMatchObject({ code: 'not_found' });
    await expect(files.watch('/w/file')).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(files.watch('relative')).rejects.toMatchObject({ code: 'invalid_argument' });
    const wrong = { recursiv: true } as object;
    await expect(files.watch('/w', wrong)).rejects.toThrow(/recursiv/);
  });

  it('ends with the box, and says why', async () => {
    const { runtime } = subject;
    const box = await runtime.create({ image: 'tiny', autoResume: false });
    const paused = await box.files.watch('/tmp');
    const ofPause = until(paused, () => false);
    ofPause.catch(() => undefined);
    await box.pause();
    await expect(ofPause).rejects.toMatchObject({ code: 'invalid_state', message: /paused/ });
    await expect(box.files.watch('/tmp')).rejects.toMatchObject({ code: 'stopped' });
    await box.resume();

    const removed = await box.files.watch('/tmp');
    const ofRemoval = until(removed, () => false);
    ofRemoval.catch(() => undefined);
    await box.remove({ force: true });
    await expect(ofRemoval).rejects.toMatchObject({ code: 'not_found', message: /removed/ });
    await expect(box.files.watch('/tmp')).rejects.toMatchObject({ code: 'not_found' });
  });
});

conformance('watching many files', ['embedded'], (subject) => {
  it('tells all of ten thousand files, and that events were lost to who does not read', async () => {
    const { box } = subject;
    await box.files.makeDirectory('/w');
    await using watch = await box.files.watch('/w', { recursive: true });
    const counted = until(watch, named('/w/10000'));
    await box.exec('cd /w && seq 10000 | xargs touch', { check: true });
    const events = await counted;
    expect(new Set(events.filter(({ type }) => type === 'created').map(({ path }) => path)).size).toBe(
      10_000,
    );

    // Nobody reads meanwhile.
    await box.exec('for mode in 700 600 700 600; do chmod -R $mode /w; done', { check: true });
    const flood = await until(watch, ({ type }) => type === 'overflow');
    expect(flood.at(-1)).toEqual({ type: 'overflow', path: '/w', isDirectory: true });
    expect(flood.length).toBeLessThan(40_000);
    await box.exec('touch /w/end');
    expect((await until(watch, named('/w/end'))).length).toBeLessThan(1000);
  });

  it('bounds what one box is asked to watch', async () => {
    const { box } = subject;
    const watches = await Promise.all(Array.from({ length: 32 }, () => box.files.watch('/tmp')));
    await expect(box.files.watch('/tmp')).rejects.toMatchObject({ code: 'resource_exhausted' });
    // Other work with files goes on beside them.
    await box.files.write('/tmp/x', 'x');
    expect((await box.files.read('/tmp/x')).toString()).toBe('x');
    await Promise.all(watches.map((watch) => watch.close()));
    await expect.poll(() => box.files.watch('/tmp').then((watch) => watch.close())).toBeUndefined();
  });
});
