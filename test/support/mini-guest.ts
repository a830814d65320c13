/** A guest small enough to boot in a test: the distribution's kernel and a static busybox that obeys its console. */
import { readFileSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mkdir -p /tmp
mount -t tmpfs -o size=100% tmp /tmp
stty -F /dev/ttyS0 -echo
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
echo "<ready>"
while read -r line; do
  eval "$line"
  echo "<done:$?>"
done
`;

/** One member of a cpio archive in the new ASCII format (kernel, Documentation/driver-api/early-userspace/buffer-format.rst). */
function cpioMember(name: string, mode: number, data: Buffer): Buffer {
  const pad = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
  const fields = [0, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
  return Buffer.concat([Buffer.from(header), pad(header.length), data, pad(data.length)]);
}

/** Writes the initramfs and returns its path. */
export async function writeInitramfs(directory: string): Promise<string> {
  const directories = ['bin', 'dev', 'proc', 'tmp'].map((name) => cpioMember(name, 0o40755, Buffer.alloc(0)));
  const archive = Buffer.concat([
    ...directories,
    cpioMember('bin/busybox', 0o100755, readFileSync('/bin/busybox')),
    cpioMember('init', 0o100755, Buffer.from(init)),
    cpioMember('TRAILER!!!', 0, Buffer.alloc(0)),
  ]);
  const path = join(directory, 'initramfs.cpio');
  await writeFile(path, archive);
  return path;
}

/** The directory CRYOBOX_KERNEL_DIR, laid out like Debian's package, or the kernel that set-up fetched into the cache. */
export async function kernelDirectory(): Promise<string> {
  return process.env.CRYOBOX_KERNEL_DIR ?? (await fetchedKernel());
}

/** Path of a kernel image, of {@link kernelDirectory}. */
export async function kernelPath(): Promise<string> {
  const root = await kernelDirectory();
  const name = (await readdir(join(root, 'boot'))).find((entry) => entry.startsWith('vmlinuz-'));
  if (!name) throw new Error(`no boot/vmlinuz-* in ${root}`);
  return join(root, 'boot', name);
}

async function fetchedKernel(): Promise<string> {
  const { CRYOBOX_CACHE, XDG_CACHE_HOME } = process.env;
  const cache = CRYOBOX_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'cryobox');
  const version = (await readFile(join(cache, 'kernel', 'current'), 'utf8')).trim();
  return join(cache, 'kernel', version);
}
