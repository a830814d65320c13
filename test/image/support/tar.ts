/** Writes tar archives for tests, hostile ones too: every field goes out as it is given. */
export interface TestEntry {
  readonly name: string;
  /** Type flag. @default '0' */
  readonly type?: string;
  readonly content?: Buffer | string;
  /** Length in the header; the content's own by default. */
  readonly size?: number;
  readonly linkName?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [number, number];
  /** Records of an extended header before the entry. */
  readonly pax?: Readonly<Record<string, Buffer | string>>;
}

/** A whole archive. */
export function makeTar(entries: readonly TestEntry[]): Buffer {
  return Buffer.concat([...entries.flatMap(encodeEntry), Buffer.alloc(1024)]);
}

function encodeEntry(entry: TestEntry): Buffer[] {
  const content = Buffer.from(entry.content ?? '');
  const parts: Buffer[] = [];
  const pax: Record<string, Buffer | string> = { ...entry.pax };
  if (Buffer.byteLength(entry.name) > 100) pax.path ??= entry.name;
  if (Buffer.byteLength(entry.linkName ?? '') > 100) pax.linkpath ??= entry.linkName ?? '';
  if (Object.keys(pax).length > 0) {
    const records = Buffer.concat(
      Object.entries(pax).map(([key, value]) => encodeRecord(key, Buffer.from(value))),
    );
    parts.push(encodeHeader({ name: 'pax', type: 'x' }, records.length), padded(records));
  }
  parts.push(encodeHeader(entry, entry.size ?? content.length), padded(content));
  return parts;
}

function encodeRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function encodeHeader(entry: TestEntry, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(entry.name.slice(0, 100), 0, 'utf8');
  writeOctal(header, entry.mode ?? 0o644, 100, 8);
  writeOctal(header, entry.uid ?? 0, 108, 8);
  writeOctal(header, entry.gid ?? 0, 116, 8);
  writeOctal(header, size, 124, 12);
  writeOctal(header, entry.mtime ?? 0, 136, 12);
  header.write(entry.type ?? '0', 156);
  header.write((entry.linkName ?? '').slice(0, 100), 157);
  header.write('ustar\x0000', 257);
  writeOctal(header, entry.device?.[0] ?? 0, 329, 8);
  writeOctal(header, entry.device?.[1] ?? 0, 337, 8);
  header.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** Octal with a NUL behind it, or base 256 where it does not fit. */
function writeOctal(header: Buffer, value: number, at: number, length: number): void {
  const digits = value.toString(8);
  if (digits.length < length) {
    header.write(`${digits.padStart(length - 1, '0')}\0`, at);
    return;
  }
  let rest = BigInt(value);
  for (let index = length - 1; index > 0; index -= 1) {
    header[at + index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  header[at] = 0x80;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}
