import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Progress } from '../../src/api/index.js';
import { packHostTree } from '../../src/base/host-pack.js';
import { conformance } from './support.js';

let host = '';
beforeAll(async () => {
  host = await mkdtemp(join(tmpdir(), 'cryobox-builds-'));
});
afterAll(() => rm(host, { recursive: true, force: true }));

let contexts = 0;

/** A directory with files. */
async function contextOf(files: Readonly<Record<string, string>>): Promise<string> {
  contexts += 1;
  const directory = join(host, `context-${contexts}`);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(directory, name, '..'), { recursive: true });
    await writeFile(join(directory, name), content);
  }
  return directory;
}

conformance('builds of images', (subject) => {
  it('run the steps of a Dockerfile, know what they did, and run again what has changed', async () => {
    const { runtime } = subject;
    const files = {
      Dockerfile: [
        'ARG BASE=tiny',
        'FROM $BASE AS first',
        // The runtimes share a home, and what it knows of steps.
        `ENV NUMBER=${contexts}`,
        'RUN mkdir -p /made/deep && echo "one  two" > /made/deep/file \\',
        '  # a comment between',
        '  && ln -s file /made/deep/link && ln /made/deep/file /made/deep/other',
        'FROM first',
        'ARG WHO=nobody',
        'ENV GREETING="hello $WHO" PLAIN=x',
        'WORKDIR /work',
        'COPY --chown=7:8 --chmod=750 *.txt kept/ ./in/',
        'COPY --from=first /made/deep/file copied',
        'RUN echo "$GREETING $(pwd)" && rm /made/deep/link && echo "$GREETING" > said',
        'LABEL a.b="c d"',
        'EXPOSE 80 90/udp',
        'USER 7',
        'CMD ["cat", "/work/said"]',
      ].join('\n'),
      'a.txt': 'A',
      'b.txt': 'B',
      'kept/deep/c': 'C',
      'kept/left-out': 'no',
      '.dockerignore': 'kept/left-out\n',
    };
    const context = await contextOf(files);
    const build = async (more: object = {}): Promise<string[]> => {
      const told: Progress[] = [];
      const onProgress = (each: Progress) => told.push(each);
      const buildArgs = { WHO: 'world' };
      await runtime.images.build('built:1', { context, buildArgs, onProgress, ...more });
      return told
        .filter(({ stage }) => stage === 'step' || stage === 'output')
        .map(({ stage, item }) => `${stage} ${item}`);
    };
    const first = await build();
    expect(first).toContain('output hello world /work');
    expect(first.some((line) => line.includes('(unchanged)'))).toBe(false);
    const box = await runtime.create({ image: 'built:1', detach: true });
    const script =
      'cat /made/deep/other said in/a.txt in/deep/c copied; stat -c %u:%g:%a in/a.txt; ls /made/deep in';
    const seen = await box.exec(script, { check: true });
    expect(seen.stdout).toBe(
      'one  two\nhello world\nACone  two\n7:8:750\n/made/deep:\nfile\nother\n\nin:\na.txt\nb.txt\ndeep\n',
    );
    expect(await box.info()).toMatchObject({ user: '7', workingDir: '/work', cmd: ['cat', '/work/said'] });
    // No box of the build is left.
    expect((await runtime.list()).filter(({ labels }) => 'cryobox.build' in labels)).toEqual([]);

    const id = (await runtime.images.get('built:1'))?.id;
    const again = await build();
    expect(
      again.filter((line) => /RUN|COPY|WORKDIR/.test(line)).every((line) => line.endsWith('(unchanged)')),
    ).toBe(true);
    await writeFile(join(context, 'b.txt'), 'changed');
    const changed = await build();
    const isKnown = (lines: string[], what: string): boolean | undefined =>
      lines.find((line) => line.includes(what))?.endsWith('(unchanged)');
    expect(isKnown(changed, 'WORKDIR')).toBe(true);
    expect(isKnown(changed, 'COPY --chown')).toBe(false);
    expect(isKnown(changed, 'RUN echo')).toBe(false);
    expect((await runtime.images.get('built:1'))?.id).not.toBe(id);
    const fresh = await build({ noCache: true, target: 'first', buildArgs: { WHO: 'x' } });
    expect(isKnown(fresh, 'RUN mkdir')).toBe(false);
    expect(fresh.some((line) => line.includes('WORKDIR'))).toBe(false);
    await box.remove({ force: true });
    await runtime.images.remove('built:1');
  }, 300_000);

  it('that fail say at which step, and leave the image as it was', async () => {
    const { runtime } = subject;
    const good = { dockerfileText: 'FROM tiny\nENV A=1\n' };
    const { configDigest } = await runtime.images.build('kept-as-is', good);
    const bad = { dockerfileText: 'FROM tiny\nRUN { echo begun; echo wrong; } >&2; exit 3\n' };
    const failed = runtime.images.build('kept-as-is', bad);
    await expect(failed).rejects.toMatchObject({
      code: 'build_failed',
      details: { exitCode: 3, line: 2, output: 'begun\nwrong\n' },
    });
    expect((await runtime.images.get('kept-as-is'))?.id).toBe(configDigest);
    const stop = new AbortController();
    const onProgress = ({ stage }: Progress): void => {
      if (stage === 'output') stop.abort();
    };
    const slow = {
      dockerfileText: 'FROM tiny\nRUN echo begun && sleep 600\n',
      onProgress,
      signal: stop.signal,
    };
    await expect(runtime.images.build('kept-as-is', slow)).rejects.toMatchObject({ code: 'cancelled' });
    expect((await runtime.images.get('kept-as-is'))?.id).toBe(configDigest);
    // The engine removes it after a remote caller has gone.
    const left = async () => (await runtime.list()).filter(({ labels }) => 'cryobox.build' in labels).length;
    await expect.poll(left, { timeout: 30_000 }).toBe(0);
    await runtime.images.remove('kept-as-is');
  }, 300_000);

  it('take a context as a tar, and refuse what cannot be', async () => {
    const { runtime } = subject;
    const context = packHostTree(await contextOf({ 'in/Other': 'FROM tiny\nCOPY in /in\n' }));
    await runtime.images.build('of-tar', { context, dockerfile: 'in/Other' });
    await runtime.images.remove('of-tar');
    const refused = async (dockerfileText: string, code: string, more: object = {}): Promise<void> => {
      const build = runtime.images.build('refused', { dockerfileText, ...more });
      await expect(build).rejects.toMatchObject({ code });
    };
    await refused('RUN true', 'invalid_argument');
    await refused('FROM scratch', 'unsupported');
    await refused('FROM tiny\nHEALTHCHECK CMD true', 'unsupported');
    await refused('FROM tiny\nRUN --mount=type=cache,target=/x true', 'unsupported');
    await refused('FROM tiny\nRUN <<EOF\ntrue\nEOF', 'unsupported');
    await refused('FROM tiny\nADD https://example.com/x /x', 'unsupported');
    await refused('FROM tiny\nNONSENSE x', 'invalid_argument');
    await refused('FROM tiny\nCOPY nothing /x', 'not_found');
    await refused('FROM tiny\nRUN true', 'invalid_argument', { buildArgs: { NOT_ASKED: '1' } });
    await refused('FROM tiny', 'invalid_argument', { target: 'none' });
    await refused('FROM tiny', 'invalid_argument', { fromDebian: 'bookworm' });
    await expect(runtime.images.build('refused', { context: join(host, 'none') })).rejects.toMatchObject({
      code: 'not_found',
    });
    expect(await runtime.images.get('refused')).toBeNull();
  }, 120_000);
});
