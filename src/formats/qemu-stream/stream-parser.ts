import { CryoboxError } from '../../errors.js';
import { MAX_DEVICE_STATE_BYTES } from './device-state.js';
import {
  command,
  describe,
  IGNORE_SHARED,
  PAGE_BITS,
  PAGE_BITS_SUBSECTION,
  PAGE_BYTES,
  RAM_SECTION_NAME,
  RAM_SECTION_VERSION,
  type RamBlock,
  ramFlag,
  STREAM_MAGIC,
  STREAM_VERSION,
  sectionType,
} from './format.js';

/** Machine type names are short; QEMU's own are under 40 bytes. */
const maxMachineTypeBytes = 255;
/** A q35 machine has about ten blocks; option ROMs add one each. */
const maxBlocks = 256;
/** Capabilities QEMU can list; no version has over 30. */
const maxCapabilities = 64;
/** Longest thing before a page: the header, a length byte and a block name. */
const longestName = 255;

/** What the caller wants to see while a stream passes. `data` is only valid during the call. */
export interface StreamHandlers {
  /** The block list, once, before any page. */
  onBlocks?(blocks: readonly RamBlock[]): void;
  onPage?(block: number, page: number, data: Buffer): void;
  onZeroPage?(block: number, page: number): void;
}

/** What a whole stream said beside its pages. */
export interface ParsedStream {
  readonly machineType: string;
  /** Capabilities the stream depends on, such as `x-ignore-shared`. */
  readonly capabilities: readonly string[];
  readonly blocks: readonly RamBlock[];
  /** The device sections as saved, without the end byte and the description behind it. */
  readonly deviceSections: Buffer;
}

type State = 'header' | 'configuration' | 'sections' | 'blocks' | 'pages' | 'footer' | 'devices';

/**
 * Takes apart what QEMU writes for `migrate` of a stopped machine: memory, then device sections. Fed with pieces of
 * any size; holds back at most one record, and the device sections. Device sections carry no lengths and are kept
 * as one piece.
 * @throws machine_failed, with the name of what was met, when the stream is not what QEMU writes with default
 * capabilities and `x-ignore-shared`. A switchover is announced since QEMU 10.0; else 7.2 to 11 write the same.
 */
export class StreamParser {
  readonly #handlers: StreamHandlers;
  #rest: Buffer = Buffer.alloc(0);
  #at = 0;
  #state: State = 'header';
  #machineType = '';
  readonly #capabilities: string[] = [];
  readonly #blocks: RamBlock[] = [];
  readonly #blockByName = new Map<string, number>();
  #listedBytes = 0;
  #ramSectionId = -1;
  #ramDone = false;
  #block = -1;
  readonly #devices: Buffer[] = [];
  #deviceBytes = 0;

  constructor(handlers: StreamHandlers = {}) {
    this.#handlers = handlers;
  }

  /** Takes the next piece; it may be kept until the next call. */
  feed(piece: Buffer): void {
    this.#rest = this.#at < this.#rest.length ? Buffer.concat([this.#rest.subarray(this.#at), piece]) : piece;
    this.#at = 0;
    while (this.#step());
  }

  /** Called at the end of the stream. */
  end(): ParsedStream {
    if (this.#state !== 'devices') throw this.#wrong('device sections before the end of the stream');
    return {
      machineType: this.#machineType,
      capabilities: this.#capabilities,
      blocks: this.#blocks,
      deviceSections: withoutTrailer(Buffer.concat(this.#devices)),
    };
  }

  /** Parses one record. False when more bytes are needed. */
  #step(): boolean {
    switch (this.#state) {
      case 'header':
        return this.#header();
      case 'configuration':
        return this.#configuration();
      case 'sections':
        return this.#section();
      case 'blocks':
        return this.#blockRecord();
      case 'pages':
        return this.#pageRecord();
      case 'footer':
        return this.#footer();
      case 'devices':
        return this.#device();
    }
  }

  #header(): boolean {
    if (!this.#has(8)) return false;
    if (this.#u32(0) !== STREAM_MAGIC) throw this.#wrong('the magic QEVM');
    if (this.#u32(4) !== STREAM_VERSION) throw this.#wrong(`stream version ${STREAM_VERSION}`);
    return this.#advance(8, 'configuration');
  }

  #configuration(): boolean {
    if (!this.#has(5)) return false;
    if (this.#u8(0) !== sectionType.configuration)
      throw this.#wrong(`a configuration, got ${describe('section', sectionType, this.#u8(0))}`);
    const length = this.#u32(1);
    if (length > maxMachineTypeBytes) throw this.#wrong('a machine type of at most 255 bytes');
    if (!this.#has(5 + length)) return false;
    this.#machineType = this.#rest.toString('utf8', this.#at + 5, this.#at + 5 + length);
    return this.#advance(5 + length, 'sections');
  }

  #section(): boolean {
    if (!this.#has(1)) return false;
    const type = this.#u8(0);
    if (type === sectionType.subsection) return this.#subsection();
    if (type === sectionType.start) return this.#ramStart();
    if (type === sectionType.part || type === sectionType.end) return this.#ramPart(type);
    if (type === sectionType.command) return this.#command();
    if (type === sectionType.full && this.#ramDone) return this.#advance(0, 'devices');
    if (type === sectionType.full) return this.#earlyDevice();
    const met = describe('section', sectionType, type);
    throw this.#wrong(`a section of RAM${this.#ramDone ? ' or a device' : ''}, got ${met}`);
  }

  /** What newer versions say between the parts of memory; all others ask for answers, and there is nobody to give them. */
  #command(): boolean {
    if (!this.#has(5)) return false;
    const [number, dataBytes] = [this.#u16(1), this.#u16(3)];
    if (number === command.switchoverStart && dataBytes === 0) return this.#advance(5, 'sections');
    const met = describe('command', command, number);
    throw this.#wrong(`no command but switchoverStart, got ${met} with ${dataBytes} bytes`);
  }

  /** A device that is saved before memory: it would have to be loaded before it, and none of ours is. */
  #earlyDevice(): boolean {
    if (!this.#has(6) || !this.#has(6 + this.#u8(5))) return false;
    const name = this.#rest.toString('utf8', this.#at + 6, this.#at + 6 + this.#u8(5));
    throw this.#wrong(`memory before devices, got the device ${JSON.stringify(name)}`);
  }

  /** What a configuration may say beside the machine type: the size of pages, then capabilities. */
  #subsection(): boolean {
    if (!this.#has(2) || !this.#has(2 + this.#u8(1))) return false;
    const name = this.#rest.toString('latin1', this.#at + 2, this.#at + 2 + this.#u8(1));
    return name === PAGE_BITS_SUBSECTION ? this.#pageBits() : this.#capabilityNames();
  }

  #pageBits(): boolean {
    const value = 2 + PAGE_BITS_SUBSECTION.length + 4;
    if (!this.#has(value + 4)) return false;
    if (this.#ramSectionId >= 0 || this.#u32(value) !== PAGE_BITS)
      throw this.#wrong(`pages of ${PAGE_BYTES} bytes, said before memory`);
    return this.#advance(value + 4, 'sections');
  }

  /** `configuration/capabilities`: a version, a count, names with their length in one byte. */
  #capabilityNames(): boolean {
    const name = 'configuration/capabilities';
    const fixed = 2 + name.length + 8;
    if (!this.#has(fixed)) return false;
    const got = this.#rest.toString('latin1', this.#at + 2, this.#at + 2 + name.length);
    if (this.#ramSectionId >= 0 || got !== name)
      throw this.#wrong(`no subsection but ${name}, got ${JSON.stringify(got)}`);
    const count = this.#u32(2 + name.length + 4);
    if (count > maxCapabilities) throw this.#wrong(`at most ${maxCapabilities} capabilities`);
    const names: string[] = [];
    let at = fixed;
    for (let i = 0; i < count; i += 1) {
      if (!this.#has(at + 1) || !this.#has(at + 1 + this.#u8(at))) return false;
      names.push(this.#rest.toString('latin1', this.#at + at + 1, this.#at + at + 1 + this.#u8(at)));
      at += 1 + this.#u8(at);
    }
    this.#capabilities.push(...names);
    return this.#advance(at, 'sections');
  }

  #ramStart(): boolean {
    const nameEnd = 6 + RAM_SECTION_NAME.length;
    const length = nameEnd + 8 + 8;
    if (!this.#has(length)) return false;
    const name = this.#rest.toString('latin1', this.#at + 6, this.#at + nameEnd);
    if (this.#u8(5) !== RAM_SECTION_NAME.length || name !== RAM_SECTION_NAME || this.#ramSectionId >= 0)
      throw this.#wrong('one live section named ram');
    if (this.#u32(nameEnd + 4) !== RAM_SECTION_VERSION)
      throw this.#wrong(`RAM version ${RAM_SECTION_VERSION}`);
    const flags = this.#u32(nameEnd + 12) & (PAGE_BYTES - 1);
    if (flags !== ramFlag.memorySize) throw this.#wrong('the total size of RAM');
    this.#ramSectionId = this.#u32(1);
    this.#listedBytes = this.#offset(nameEnd + 8);
    return this.#advance(length, 'blocks');
  }

  #blockRecord(): boolean {
    if (this.#listedBytes === 0) {
      this.#handlers.onBlocks?.(this.#blocks);
      this.#state = 'pages';
      return true;
    }
    if (!this.#has(1)) return false;
    const addressBytes = this.#capabilities.includes(IGNORE_SHARED) ? 8 : 0;
    const nameLength = this.#u8(0);
    const length = 1 + nameLength + 8 + addressBytes;
    if (!this.#has(length)) return false;
    const name = this.#rest.toString('utf8', this.#at + 1, this.#at + 1 + nameLength);
    const sizeBytes = this.#u32(1 + nameLength) * 2 ** 32 + this.#u32(5 + nameLength);
    const fits = sizeBytes > 0 && sizeBytes <= this.#listedBytes && sizeBytes % PAGE_BYTES === 0;
    if (!fits || this.#blocks.length >= maxBlocks || this.#blockByName.has(name))
      throw this.#wrong(`a new RAM block in whole pages, got ${JSON.stringify(name)} of ${sizeBytes} bytes`);
    this.#blockByName.set(name, this.#blocks.length);
    this.#blocks.push({ name, sizeBytes });
    this.#listedBytes -= sizeBytes;
    return this.#advance(length, 'blocks');
  }

  #ramPart(type: number): boolean {
    if (!this.#has(5)) return false;
    if (this.#u32(1) !== this.#ramSectionId || this.#ramDone) throw this.#wrong('a part of the RAM section');
    this.#ramDone = type === sectionType.end;
    return this.#advance(5, 'pages');
  }

  #pageRecord(): boolean {
    if (!this.#has(8)) return false;
    const flags = this.#u32(4) & (PAGE_BYTES - 1);
    if (flags === ramFlag.endOfSection) return this.#advance(8, 'footer');
    const kind = flags & ~ramFlag.sameBlock;
    if (kind !== ramFlag.page && kind !== ramFlag.zero)
      throw this.#wrong(`a page, a zero page or an end, got ${describeFlags(kind)}`);
    let length = 8;
    if ((flags & ramFlag.sameBlock) === 0) {
      if (!this.#has(9 + longestName) && (!this.#has(9) || !this.#has(9 + this.#u8(8)))) return false;
      length = 9 + this.#u8(8);
    }
    const dataBytes = kind === ramFlag.page ? PAGE_BYTES : 1;
    if (!this.#has(length + dataBytes)) return false;
    if (length > 8) this.#selectBlock(this.#rest.toString('utf8', this.#at + 9, this.#at + length));
    this.#deliver(kind, this.#offset(0) / PAGE_BYTES, length);
    return this.#advance(length + dataBytes, 'pages');
  }

  #selectBlock(name: string): void {
    this.#block = this.#blockByName.get(name) ?? -1;
    if (this.#block < 0) throw this.#wrong(`a page of a listed block, got block ${JSON.stringify(name)}`);
  }

  #deliver(kind: number, page: number, dataAt: number): void {
    const block = this.#blocks[this.#block];
    if (!block || page * PAGE_BYTES >= block.sizeBytes)
      throw this.#wrong(`a page inside its block, got ${page}`);
    if (kind === ramFlag.page) {
      const from = this.#at + dataAt;
      this.#handlers.onPage?.(this.#block, page, this.#rest.subarray(from, from + PAGE_BYTES));
    } else {
      if (this.#u8(dataAt) !== 0) throw this.#wrong('a fill byte of zero');
      this.#handlers.onZeroPage?.(this.#block, page);
    }
  }

  #footer(): boolean {
    if (!this.#has(5)) return false;
    if (this.#u8(0) !== sectionType.footer || this.#u32(1) !== this.#ramSectionId)
      throw this.#wrong('the footer of the RAM section');
    return this.#advance(5, 'sections');
  }

  #device(): boolean {
    const piece = this.#rest.subarray(this.#at);
    if (piece.length === 0) return false;
    this.#deviceBytes += piece.length;
    if (this.#deviceBytes > MAX_DEVICE_STATE_BYTES)
      throw this.#wrong(`at most ${MAX_DEVICE_STATE_BYTES} bytes of device sections`);
    this.#devices.push(piece);
    return this.#advance(piece.length, 'devices');
  }

  #has(bytes: number): boolean {
    return this.#rest.length - this.#at >= bytes;
  }

  #u8(at: number): number {
    return this.#rest.readUInt8(this.#at + at);
  }

  #u16(at: number): number {
    return this.#rest.readUInt16BE(this.#at + at);
  }

  #u32(at: number): number {
    return this.#rest.readUInt32BE(this.#at + at);
  }

  /** A 64-bit number without its low 12 bits, which carry flags. */
  #offset(at: number): number {
    const low = this.#u32(at + 4);
    return this.#u32(at) * 2 ** 32 + (low - (low % PAGE_BYTES));
  }

  #advance(bytes: number, state: State): true {
    this.#at += bytes;
    this.#state = state;
    return true;
  }

  #wrong(expected: string): CryoboxError {
    return new CryoboxError(
      'machine_failed',
      `migration stream from QEMU (${this.#state}): expected ${expected}`,
    );
  }
}

/** The flags of a RAM record by name, such as `xbzrle (64)`. */
function describeFlags(flags: number): string {
  const bits = [...Array(12).keys()].map((bit) => 2 ** bit).filter((bit) => (flags & bit) !== 0);
  return bits.length === 0
    ? 'a record without flags'
    : bits.map((bit) => describe('flag', ramFlag, bit)).join(' and ');
}

/** Cuts the end byte, and the JSON description QEMU puts behind it unless `suppress-vmdesc` is set. */
function withoutTrailer(tail: Buffer): Buffer {
  let end = tail.length;
  const marker = Buffer.from([sectionType.endOfFile, sectionType.vmDescription]);
  let at = tail.lastIndexOf(marker);
  while (at >= 0) {
    if (at + 6 <= tail.length && at + 6 + tail.readUInt32BE(at + 2) === tail.length) {
      end = at + 1;
      break;
    }
    if (at === 0) break;
    at = tail.lastIndexOf(marker, at - 1);
  }
  if (tail[end - 1] !== sectionType.endOfFile)
    throw new CryoboxError(
      'machine_failed',
      'migration stream from QEMU: it ends inside its device sections',
    );
  return tail.subarray(0, end - 1);
}
