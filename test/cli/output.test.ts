import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { printable } from '../../src/cli/output/printable.js';
import { ProgressDisplay } from '../../src/cli/output/progress.js';
import { OutputClosed, OutputStream } from '../../src/cli/output/stream.js';
import { renderFacts, renderTable } from '../../src/cli/output/table.js';
import { formatAge, formatBytes, formatDuration } from '../../src/cli/output/units.js';

describe('units', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [50_000_000, '47.7 MiB'],
    [2 ** 50, '1024.0 TiB'],
  ])('%i bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [1.239, '1.24 ms'],
    [830.2, '830 ms'],
    [12_340, '12.3 s'],
    [59_990, '1m00s'],
    [245_000, '4m05s'],
    [7_800_000, '2h10m'],
  ])('%d ms are %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  it('says how long ago something was', () => {
    const now = Date.UTC(2026, 0, 2);
    const ago = (seconds: number) => formatAge(new Date(now - seconds * 1000), now);
    expect([ago(-5), ago(1), ago(59), ago(60), ago(7200), ago(172_800)]).toEqual([
      '0 seconds ago',
      '1 second ago',
      '59 seconds ago',
      '1 minute ago',
      '2 hours ago',
      '2 days ago',
    ]);
  });
});

describe('tables', () => {
  it('aligns columns and fills gaps', () => {
    const text = renderTable(
      [
        { header: 'NAME', cell: (row: { name: string | null; size: number }) => row.name },
        { header: 'SIZE', cell: (row) => row.size, align: 'right' },
      ],
      [
        { name: 'alpha-beta', size: 5 },
        { name: null, size: 12_345 },
      ],
    );
    expect(text).toBe('NAME          SIZE\nalpha-beta       5\n-            12345\n');
  });

  it('lets no name drive the terminal', () => {
    expect(printable('a\u001b[2Jb\u0007\u009b\u202e')).toBe('a\ufffd[2Jb\ufffd\ufffd\ufffd');
    expect(printable('a\nb\tc\r', { lines: true })).toBe('a\nb\tc\ufffd');
    expect(renderFacts({ name: 'x\u001bc', note: null })).toBe('name:  x\ufffdc\nnote:  -\n');
  });
});

describe('progress', () => {
  function display(target: { isTTY?: boolean; columns?: number; rows?: number }) {
    let now = 0;
    const written: string[] = [];
    const progress = new ProgressDisplay({ ...target, write: (text) => written.push(text) }, () => now);
    return { progress, written, tick: (ms: number) => (now += ms) };
  }

  it('writes a plain line now and then where there is no terminal', () => {
    const { progress, written, tick } = display({});
    const totalBytes = 10 * 1024;
    for (let doneBytes = 0; doneBytes <= totalBytes; doneBytes += 1024) {
      progress.report({ stage: 'layer', item: `sha256:${'ab'.repeat(32)}`, doneBytes, totalBytes });
      tick(1000);
    }
    progress.report({ stage: 'layer', item: `sha256:${'ab'.repeat(32)}`, doneBytes: totalBytes, totalBytes });
    progress.end();
    expect(written).toEqual([
      'layer abababababab  0 B / 10.0 KiB\n',
      'layer abababababab  5.0 KiB / 10.0 KiB  1.0 KiB/s  5.0 s left\n',
      'layer abababababab  10.0 KiB / 10.0 KiB  1.0 KiB/s\n',
    ]);
  });

  it('redraws in place on a terminal, within its width and height', () => {
    const { progress, written, tick } = display({ isTTY: true, columns: 100, rows: 4 });
    for (let item = 0; item < 6; item += 1) {
      progress.report({ stage: 'layer', item: String(item), doneBytes: 0, totalBytes: 100 });
      tick(200);
    }
    progress.report({ stage: 'layer', item: '5', doneBytes: 50, totalBytes: 100 });
    const last = written.at(-1) ?? '';
    expect(last.startsWith('\u001b[3A')).toBe(true);
    expect(last.split('\n').length - 1).toBe(3);
    const long = display({ isTTY: true, columns: 40 });
    long.progress.report({ stage: 'x'.repeat(200), doneBytes: 1 });
    expect(long.written[0]).toContain(`\u001b[2K${'x'.repeat(39)}\n`);
  });
});

describe('output', () => {
  it('waits for a slow reader', async () => {
    const pipe = new PassThrough({ highWaterMark: 10 });
    const output = new OutputStream(pipe);
    let written = 0;
    const writing = (async () => {
      for (let i = 0; i < 10; i += 1) {
        await output.write('0123456789');
        written += 10;
      }
    })();
    await new Promise((resolve) => setImmediate(resolve));
    expect(written).toBeLessThanOrEqual(30);
    pipe.resume();
    await writing;
    expect(written).toBe(100);
  });

  it('says when nobody reads any more', async () => {
    const pipe = new PassThrough();
    const output = new OutputStream(pipe);
    pipe.destroy();
    await expect(output.write('x')).rejects.toBeInstanceOf(OutputClosed);
  });
});
