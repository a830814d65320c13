import { CryoboxError } from '../errors.js';

/** What a kernel module says about itself. */
export interface ModuleInfo {
  /** Names of the modules it needs, with underscores. */
  readonly depends: readonly string[];
  /** Names under which the kernel asks for it, such as `fs-overlay`; patterns over hardware (`pci:v*`) left out. */
  readonly aliases: readonly string[];
}

const elfMagic = Buffer.from('\x7fELF\x02\x01', 'latin1');

/**
 * Reads the section `.modinfo` of a 64-bit little-endian ELF object (System V ABI, "Sections"; Linux,
 * include/linux/moduleparam.h): strings `key=value` separated by NUL.
 * @throws CryoboxError `config_error` when it is no module, or still packed.
 */
export function readModuleInfo(file: Buffer, path: string): ModuleInfo {
  const wrong = (why: string) =>
    new CryoboxError('config_error', `${path} is no usable kernel module: ${why}`);
  if (!file.subarray(0, elfMagic.length).equals(elfMagic)) {
    throw wrong('it is not a 64-bit ELF object');
  }
  try {
    const info = section(file, '.modinfo');
    if (info === undefined) throw wrong('it has no section .modinfo');
    const records = info.toString('latin1').split('\0');
    const values = (key: string): string[] =>
      records.filter((text) => text.startsWith(`${key}=`)).map((text) => text.slice(key.length + 1));
    const names = (values('depends')[0] ?? '').split(',');
    return {
      depends: names.filter(Boolean).map((name) => name.replaceAll('-', '_')),
      aliases: values('alias').filter((alias) => !/[*?[\s]/.test(alias)),
    };
  } catch (error) {
    if (error instanceof RangeError) throw wrong('it is cut off');
    throw error;
  }
}

function section(file: Buffer, wanted: string): Buffer | undefined {
  const tableAt = Number(file.readBigUInt64LE(0x28));
  const entryBytes = file.readUInt16LE(0x3a);
  const count = file.readUInt16LE(0x3c);
  const namesIndex = file.readUInt16LE(0x3e);
  const place = (index: number) => {
    const at = tableAt + index * entryBytes;
    return {
      name: file.readUInt32LE(at),
      from: Number(file.readBigUInt64LE(at + 0x18)),
      bytes: Number(file.readBigUInt64LE(at + 0x20)),
    };
  };
  const names = place(namesIndex);
  for (let index = 0; index < count; index += 1) {
    const { name, from, bytes } = place(index);
    const start = names.from + name;
    const end = file.indexOf(0, start);
    if (file.toString('latin1', start, end) === wanted) return file.subarray(from, from + bytes);
  }
  return undefined;
}
