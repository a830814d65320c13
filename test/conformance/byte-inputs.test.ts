import { createReadStream } from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { conformance } from './support.js';

const text = 'content of a file';
const bytes = new TextEncoder().encode(text);
/** Has forms that the types do not take. */
const any = (value: unknown): never => value as never;

conformance('bytes that are given', (subject) => {
  it.each<[string, () => unknown]>([
    ['a string', () => text],
    ['an ArrayBuffer', () => bytes.buffer.slice(0)],
    ['a DataView', () => new DataView(bytes.buffer)],
    ['a File', () => new File([text], 'name')],
    ['a web stream', () => new Response(text).body],
    ['a Node stream', () => Readable.from([bytes], { objectMode: false })],
    ['an array', () => [text.slice(0, 3), bytes.slice(3)]],
  ])('as %s are written, and read by a command', async (_name, make) => {
    const { files } = subject.box;
    await files.write('/root/given', any(make()));
    expect((await files.read('/root/given')).toString()).toBe(text);
    const { stdout } = await subject.box.exec(['cat'], { stdin: any(make()) });
    expect(stdout.toString()).toBe(text);
  });

  it.each<[string, () => unknown]>([
    ['nothing', () => undefined],
    ['null', () => null],
    ['a number', () => 7],
    ['an object', () => ({ a: 1 })],
    ['numbers', () => new Set([1, 2])],
    ['a stream of objects', () => Readable.from([{}])],
    ['a destroyed stream', () => new PassThrough().destroy()],
  ])('as %s are refused', async (name, make) => {
    const { box, runtime } = subject;
    const refused = { code: 'invalid_argument' };
    await expect(box.files.write('/root/refused', any(make()))).rejects.toMatchObject(refused);
    await expect(box.files.unpack('/root', any(make()))).rejects.toMatchObject(refused);
    await expect(runtime.import(any(make()))).rejects.toMatchObject(refused);
    if (name !== 'nothing') {
      await expect(box.exec(['cat'], { stdin: any(make()) })).rejects.toMatchObject(refused);
    }
    expect(await box.files.stat('/root/refused')).toBeNull();
  });

  it('that fail on the way fail the call, and leave nothing', async () => {
    const { box } = subject;
    const reason = new Error('the source is gone');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(500_000);
      throw reason;
    }
    const before = await box.files.list('/root');
    await expect(box.files.write('/root/failed', failing())).rejects.toBe(reason);
    await expect(box.exec(['cat'], { stdin: failing() })).rejects.toBe(reason);
    const missing = box.files.write('/root/failed', createReadStream('/missing'));
    await expect(missing).rejects.toMatchObject({ code: 'ENOENT' });
    const gone = box.files.unpack('/root', createReadStream('/missing'));
    await expect(gone).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await box.files.list('/root')).toEqual(before);
  });

  it('without end are not waited for when the command has ended', async () => {
    const open = new PassThrough();
    expect(await subject.box.exec(['true'], { stdin: open })).toMatchObject({ exitCode: 0 });
    expect(open.destroyed).toBe(true);
    const execution = await subject.box.startExec(['cat'], { stdin: true });
    await expect(execution.stdin?.write(any(5))).rejects.toMatchObject({ code: 'invalid_argument' });
    await execution.stdin?.end();
    expect(await execution.wait()).toMatchObject({ exitCode: 0 });
  });
});
