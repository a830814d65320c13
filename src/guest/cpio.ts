/** One entry of a cpio archive. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** Type and permission bits, such as `0o100755` or `0o040755`. */
  readonly mode: number;
  readonly content?: Uint8Array;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
}

const alignment = 4;

/**
 * A cpio archive in the "newc" format, as the kernel unpacks it (Linux: Documentation/driver-api/early-userspace/
 * buffer-format.rst). The same entries give the same bytes.
 */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => member(entry, index + 1));
  parts.push(member({ path: 'TRAILER!!!', mode: 0 }, 0));
  return Buffer.concat(parts);
}

function member({ path, mode, content, device }: CpioEntry, inode: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const data = content ?? Buffer.alloc(0);
  const links = inode === 0 ? 0 : 1;
  const [major, minor] = device ?? [0, 0];
  // inode, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(data)]);
}

function padded(bytes: Uint8Array): Uint8Array {
  const rest = bytes.length % alignment;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(alignment - rest)]);
}
