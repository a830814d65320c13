/** Writer of `newc` cpio archives, the format of an initramfs (Linux, Documentation/driver-api/early-userspace/buffer-format). */

/** A file of an initramfs. Everything belongs to root and has no time, so that equal content gives equal bytes. */
export type CpioEntry =
  | { readonly type: 'directory'; readonly path: string; readonly mode: number }
  | { readonly type: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | {
      readonly type: 'character';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const typeBits = { directory: 0o040000, file: 0o100000, character: 0o020000 } as const;
const trailer = 'TRAILER!!!';

/** The archive in pieces. Directories must come before what is in them; paths have no leading slash. */
export function* encodeCpio(entries: Iterable<CpioEntry>): Generator<Uint8Array, void> {
  let inode = 0;
  for (const entry of entries) {
    inode += 1;
    const content = entry.type === 'file' ? entry.content : new Uint8Array();
    yield header({
      inode,
      mode: typeBits[entry.type] | entry.mode,
      links: entry.type === 'directory' ? 2 : 1,
      size: content.byteLength,
      major: entry.type === 'character' ? entry.major : 0,
      minor: entry.type === 'character' ? entry.minor : 0,
      name: entry.path,
    });
    if (content.byteLength === 0) continue;
    yield content;
    yield Buffer.alloc(padding(content.byteLength));
  }
  yield header({ inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0, name: trailer });
}

interface Header {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
  readonly name: string;
}

/** Magic and thirteen numbers of eight hex digits, the name with its NUL, zeros up to a multiple of four. */
function header(fields: Header): Uint8Array {
  const name = Buffer.from(`${fields.name}\0`, 'utf8');
  const numbers = [
    fields.inode,
    fields.mode,
    0,
    0,
    fields.links,
    0,
    fields.size,
    0,
    0,
    fields.major,
    fields.minor,
    name.length,
    0,
  ];
  const text = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  const head = Buffer.concat([Buffer.from(text, 'latin1'), name]);
  return Buffer.concat([head, Buffer.alloc(padding(head.length))]);
}

function padding(length: number): number {
  return (4 - (length % 4)) % 4;
}
