/**
 * A stopped machine's RAM seen through /proc (Linux, Documentation/admin-guide/mm/pagemap.rst and proc(5)). Needs the
 * rights of ptrace: the same user, or root.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { Turns } from '../base/turns.js';
import { CryoboxError, wrapHostError } from '../errors.js';
import { EXTENT_WORDS, ExtentBuilder } from '../formats/pages/extents.js';
import { PAGE_BYTES } from '../formats/qemu-stream/format.js';

/**
 * How to find the RAM: `file` is the flat layer QEMU mapped, found by device and inode; without it, RAM is the one
 * anonymous mapping of exactly `sizeBytes`.
 */
export interface RamMapping {
  readonly file?: string;
  readonly sizeBytes: number;
}

/** A piece of the RAM's address range in the process. */
interface Segment {
  readonly address: number;
  readonly startPage: number;
  readonly pageCount: number;
}

/** Bits of a pagemap entry, in its upper 32 bits: present (63), swapped (62), file-backed or shared (61). */
const present = 0x8000_0000;
const swapped = 0x4000_0000;
const fileBacked = 0x2000_0000;
/** Pagemap entries read at once: 1 MiB of them, 512 MiB of RAM. */
const entriesPerRead = 128 * 1024;
/**
 * Clean pages between two written ones that are read along rather than by a second system call: copying a page costs
 * less than a call. Only pages that are present, so that nothing is faulted in.
 */
const bridgedPages = 3;

/** Whether this process may read the memory of another, which decides between a capture's two ways. */
export function canReadProcess(pid: number): boolean {
  try {
    closeSync(openSync(`/proc/${pid}/mem`, 'r'));
    closeSync(openSync(`/proc/${pid}/pagemap`, 'r'));
    return true;
  } catch {
    return false;
  }
}

/** The RAM of one process. Valid while the machine is stopped; `close` it. */
export class ProcessMemory {
  readonly #pid: number;
  readonly #mem: number;
  readonly #segments: readonly Segment[];
  readonly #sizeBytes: number;

  private constructor(pid: number, mem: number, segments: readonly Segment[], sizeBytes: number) {
    this.#pid = pid;
    this.#mem = mem;
    this.#segments = segments;
    this.#sizeBytes = sizeBytes;
  }

  /** @throws machine_failed when the process is gone, not readable, or has no such mapping. */
  static async open(pid: number, mapping: RamMapping): Promise<ProcessMemory> {
    try {
      const segments = await findSegments(pid, mapping);
      return new ProcessMemory(pid, openSync(`/proc/${pid}/mem`, 'r'), segments, mapping.sizeBytes);
    } catch (error) {
      throw wrapHostError(error, `reading the memory of machine process ${pid}`, 'machine_failed');
    }
  }

  /**
   * Runs of pages the guest, or QEMU for it, wrote: private copies in memory or swap. Words of a run: first page,
   * number of pages. A run can contain a few clean pages between written ones.
   */
  async writtenRuns(): Promise<WrittenRuns> {
    const fd = openSync(`/proc/${this.#pid}/pagemap`, 'r');
    try {
      const runs = new RunBuilder();
      const turns = new Turns();
      const buffer = Buffer.alloc(entriesPerRead * 8);
      for (const segment of this.#segments) {
        for (let done = 0; done < segment.pageCount; done += entriesPerRead) {
          const count = Math.min(entriesPerRead, segment.pageCount - done);
          const position = (segment.address / PAGE_BYTES + done) * 8;
          readFully(fd, buffer.subarray(0, count * 8), position);
          runs.scan(new Uint32Array(buffer.buffer, buffer.byteOffset, count * 2), segment.startPage + done);
          await turns.chunk();
        }
      }
      return runs.finish();
    } catch (error) {
      throw wrapHostError(error, `reading the page table of machine process ${this.#pid}`, 'machine_failed');
    } finally {
      closeSync(fd);
    }
  }

  /** Fills `target` with the pages from `startPage`. */
  readPages(startPage: number, target: Buffer): void {
    let page = startPage;
    let done = 0;
    for (const segment of this.#segments) {
      const into = page - segment.startPage;
      if (into < 0 || into >= segment.pageCount || done === target.length) continue;
      const length = Math.min(target.length - done, (segment.pageCount - into) * PAGE_BYTES);
      try {
        readFully(this.#mem, target.subarray(done, done + length), segment.address + into * PAGE_BYTES);
      } catch (error) {
        throw wrapHostError(error, `reading the memory of machine process ${this.#pid}`, 'machine_failed');
      }
      done += length;
      page += length / PAGE_BYTES;
    }
    if (done < target.length)
      throw new CryoboxError('internal', `page ${page} is outside of a RAM of ${this.#sizeBytes} bytes`);
  }

  close(): void {
    closeSync(this.#mem);
  }
}

/** Runs of written pages, two words each (first page, number of pages), and how many pages were written. */
export interface WrittenRuns {
  readonly runs: Uint32Array;
  readonly writtenPages: number;
}

/** Makes runs of pagemap entries; joins runs over a few clean pages. */
class RunBuilder {
  readonly #out = new ExtentBuilder();
  #written = 0;
  #start = -1;
  #end = -1;

  /** Takes the entries of consecutive pages, as pairs of words, low word first. */
  scan(words: Uint32Array, firstPage: number): void {
    for (let index = 0; index * 2 < words.length; index += 1) {
      const high = words[index * 2 + 1] ?? 0;
      const page = firstPage + index;
      if ((high & swapped) !== 0 || ((high & present) !== 0 && (high & fileBacked) === 0)) {
        if (this.#start >= 0 && page - this.#end > bridgedPages) this.#closeRun();
        if (this.#start < 0) this.#start = page;
        this.#end = page + 1;
        this.#written += 1;
      } else if (this.#start >= 0 && (high & present) === 0) this.#closeRun();
    }
  }

  finish(): WrittenRuns {
    this.#closeRun();
    const extents = this.#out.finish();
    const runs = new Uint32Array((extents.length / EXTENT_WORDS) * 2);
    for (let at = 0; at < extents.length; at += EXTENT_WORDS)
      runs.set([extents[at] ?? 0, extents[at + 1] ?? 0], at / 2);
    return { runs, writtenPages: this.#written };
  }

  #closeRun(): void {
    if (this.#start >= 0) this.#out.add(this.#start, this.#end - this.#start, 0, this.#start);
    this.#start = -1;
  }
}

function readFully(fd: number, target: Buffer, position: number): void {
  let done = 0;
  while (done < target.length) {
    const got = readSync(fd, target, done, target.length - done, position + done);
    if (got === 0) throw new Error(`nothing to read at ${position + done}`);
    done += got;
  }
}

interface MapsLine {
  readonly start: number;
  readonly end: number;
  readonly offset: number;
  readonly device: string;
  readonly inode: number;
}

async function findSegments(pid: number, mapping: RamMapping): Promise<Segment[]> {
  const lines = (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n').flatMap(parseMapsLine);
  const found = mapping.file === undefined ? anonymous(lines, mapping) : await mapped(lines, mapping.file);
  const segments = found
    .filter((line) => line.offset < mapping.sizeBytes)
    .sort((a, b) => a.offset - b.offset)
    .map((line) => ({
      address: line.start,
      startPage: line.offset / PAGE_BYTES,
      pageCount: (line.end - line.start) / PAGE_BYTES,
    }));
  let page = 0;
  for (const segment of segments) page = segment.startPage === page ? page + segment.pageCount : -1;
  if (page * PAGE_BYTES === mapping.sizeBytes) return segments;
  const what = mapping.file === undefined ? 'one anonymous mapping' : `a mapping of ${mapping.file}`;
  throw new Error(`expected ${what} of ${mapping.sizeBytes} bytes, got ${segments.length} pieces`);
}

function anonymous(lines: readonly MapsLine[], mapping: RamMapping): MapsLine[] {
  const found = lines.filter((line) => line.inode === 0 && line.end - line.start === mapping.sizeBytes);
  return found.map((line) => ({ ...line, offset: 0 }));
}

async function mapped(lines: readonly MapsLine[], file: string): Promise<MapsLine[]> {
  const { dev, ino } = await stat(file);
  // The device is compared only where maps and stat agree on it: btrfs and overlayfs show another one in maps.
  const sameInode = lines.filter((line) => line.inode === ino);
  const sameDevice = sameInode.filter((line) => line.device === deviceName(dev));
  return sameDevice.length > 0 ? sameDevice : sameInode;
}

/** A device number as /proc/PID/maps writes it (glibc's split of dev_t). */
function deviceName(dev: number): string {
  const major = Math.floor(dev / 256) % 4096;
  const minor = (dev % 256) + Math.floor(dev / 2 ** 20) * 256;
  return `${major.toString(16).padStart(2, '0')}:${minor.toString(16).padStart(2, '0')}`;
}

function parseMapsLine(line: string): MapsLine[] {
  const match = /^([0-9a-f]+)-([0-9a-f]+) rw.p ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)/.exec(line);
  if (!match) return [];
  const [, start = '', end = '', offset = '', device = '', inode = ''] = match;
  return [
    {
      start: Number.parseInt(start, 16),
      end: Number.parseInt(end, 16),
      offset: Number.parseInt(offset, 16),
      device,
      inode: Number(inode),
    },
  ];
}
