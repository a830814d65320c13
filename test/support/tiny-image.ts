import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Pack, pack } from 'tar-stream';

/** What an image of a test holds beside busybox. */
export interface TinyImageOptions {
  readonly files?: Readonly<Record<string, string>>;
  readonly config?: Readonly<Record<string, unknown>>;
  /** Leaves busybox and its links out. */
  readonly empty?: boolean;
  /** Architecture of the image, as images name it, and its busybox. @default this host's */
  readonly foreign?: { readonly architecture: string; readonly busybox: string };
}

const applets =
  'sh ls cat echo true false sleep id env pwd head tail wc sha256sum md5sum dd mkdir rm cp mv ln chmod chown touch stat date uname hostname ps kill sync mount df grep sed tr sort seq tty stty nc wget ip test printf find xargs tee yes readlink realpath base64 cmp diff tar usleep';

/** Writes an OCI layout of one layer, busybox and its links, into a new directory. Returns the directory. */
export async function writeTinyImage(directory: string, options: TinyImageOptions = {}): Promise<string> {
  const blobs = join(directory, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (bytes: Buffer, mediaType: string) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const layer = await put(await layerTar(options), 'application/vnd.oci.image.layer.v1.tar');
  const config = {
    architecture: options.foreign?.architecture ?? 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/usr/bin:/bin'], Cmd: ['/bin/sh'], ...options.config },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  };
  const configBlob = await put(
    Buffer.from(JSON.stringify(config)),
    'application/vnd.oci.image.config.v1+json',
  );
  const manifest = { schemaVersion: 2, config: configBlob, layers: [layer] };
  const manifestBlob = await put(
    Buffer.from(JSON.stringify(manifest)),
    'application/vnd.oci.image.manifest.v1+json',
  );
  const index = { schemaVersion: 2, manifests: [manifestBlob] };
  await writeFile(join(directory, 'index.json'), JSON.stringify(index));
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return directory;
}

async function layerTar({ files = {}, empty = false, foreign }: TinyImageOptions): Promise<Buffer> {
  const tar = pack();
  for (const name of ['bin', 'etc', 'root', 'tmp', 'usr', 'usr/bin', 'home', 'home/user']) {
    tar.entry({ name, type: 'directory', mode: name === 'tmp' ? 0o1777 : 0o755 });
  }
  if (!empty) await addBusybox(tar, foreign?.busybox ?? '/bin/busybox');
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n');
  tar.entry({ name: 'etc/group' }, 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\n');
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mode: 0o755 }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function addBusybox(tar: Pack, path: string): Promise<void> {
  tar.entry({ name: 'bin/busybox', mode: 0o755 }, await readFile(path));
  for (const name of applets.split(' '))
    tar.entry({ name: `bin/${name}`, type: 'symlink', linkname: 'busybox' });
}
