import type { ImageInfo } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { type Command, createCommand, createGroup } from '../command.js';
import type { Context } from '../context.js';
import { printJson, printListing, printOne } from '../listing.js';
import { formatAge, formatBytes } from '../output/units.js';
import { flag, format, many, required, several, text, value } from '../specs.js';
import { forEachTarget, found } from '../targets.js';
import { oneOf } from '../values.js';
import { build, printPulled } from './build.js';

const list = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list images',
  args: {},
  isDefault: true,
  options: {
    quiet: flag('-q, --quiet', 'print references only'),
    all: flag('-a, --all', 'no effect: all are listed'),
    format,
  },
  async handler(context, _, { quiet, format }) {
    const { images } = await context.runtime();
    const all = await images.list({ signal: context.signal });
    if (!quiet) await printListing(context, format, all, imageColumns, imageView);
    else for (const image of all) await context.stdout.line(shortName(image));
  },
});

const imageColumns = [
  { header: 'IMAGE', cell: shortName },
  { header: 'ID', cell: (image: ImageInfo) => image.id.replace(/^sha256:/, '').slice(0, 12) },
  { header: 'LAYERS', cell: (image: ImageInfo) => image.layerCount, align: 'right' as const },
  { header: 'SIZE', cell: (image: ImageInfo) => formatBytes(image.sizeBytes), align: 'right' as const },
  { header: 'CACHED', cell: (image: ImageInfo) => formatAge(image.cachedAt) },
];

/** An image as templates see it: all of it, and what container tools call their columns. */
function imageView(image: ImageInfo): unknown {
  return {
    ...image,
    digest: image.manifestDigest,
    size: formatBytes(image.sizeBytes),
    createdSince: formatAge(image.cachedAt),
  };
}

/** The reference without the default registry, as people write it. */
function shortName({ repository, tag, reference }: ImageInfo): string {
  const digest = reference.indexOf('@');
  return `${repository}${tag && `:${tag}`}${digest < 0 ? '' : reference.slice(digest)}`;
}

const inspect = createCommand({
  name: 'inspect',
  summary: 'show everything about an image',
  args: { image: required('image', 'reference or id') },
  options: { format },
  async handler(context, { image }, { format }) {
    const { images } = await context.runtime();
    const info = found(await images.get(image, { signal: context.signal }), 'image', image);
    await printOne(context, format, info, (it) => ({
      reference: it.reference,
      id: it.id,
      manifest: it.manifestDigest,
      layers: it.layerCount,
      size: formatBytes(it.sizeBytes),
      cached: it.cachedAt.toISOString(),
    }));
  },
});

const removal = (name: string): Command =>
  createCommand({
    name,
    summary: 'remove images',
    args: { references: several('image', 'references or ids') },
    options: { force: flag('-f, --force', 'also while boxes use them; the boxes keep their layers'), format },
    async handler(context, { references }, { force, format }) {
      const removed: string[] = [];
      const exitCode = await forEachTarget(context, references, async (reference) => {
        const { images } = await context.runtime();
        await images.remove(reference, { force, signal: context.signal });
        removed.push(reference);
        return format === 'json' ? undefined : reference;
      });
      if (format === 'json') await printJson(context, removed);
      return exitCode;
    },
  });

const remove = removal('rm');

/** What container tools call `images rm`. */
export const rmi = removal('rmi');

const prune = createCommand({
  name: 'prune',
  summary: 'remove images no box uses',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { images } = await context.runtime();
    const removed = await images.prune({ signal: context.signal });
    await printListing(context, format, removed, [{ header: 'REMOVED', cell: (reference) => reference }]);
  },
});

const importImage = createCommand({
  name: 'import',
  summary: 'import an OCI layout directory, or a docker-archive or OCI tar',
  args: { path: required('path', 'directory or tar file') },
  options: {
    reference: text('--reference <reference>', 'name of the image (default: its own)'),
    platform: text('--platform <platform>', "such as linux/arm64 (default: this host's)"),
    format,
  },
  async handler(context, { path }, { reference, platform, format }) {
    const { images } = await context.runtime();
    const result = await context.withProgress((onProgress) =>
      images.import(path, { reference, platform, onProgress, signal: context.signal }),
    );
    await printPulled(context, format, result);
  },
});

export const pull = createCommand({
  name: 'pull',
  summary: 'pull an image from a registry',
  args: { reference: required('reference', 'such as registry.example.com/name:tag') },
  options: {
    platform: text('--platform <platform>', "such as linux/amd64 (default: this host's)"),
    policy: value(
      '--policy <policy>',
      'always, missing or never (default: always)',
      oneOf('always', 'missing', 'never'),
    ),
    username: text('--username <name>', 'user at the registry; the password comes with --password-stdin'),
    passwordStdin: flag('--password-stdin', 'read the password from stdin'),
    mirror: many('--mirror <url>', 'address tried first', (url) => url),
    plainHttp: flag('--plain-http', 'talk to the registry without TLS'),
    caFile: text('--ca-file <file>', 'PEM file of a certificate authority'),
    skipVerify: flag('--skip-verify', "do not check the registry's certificate"),
    format,
  },
  async handler(context, { reference }, options) {
    const { images } = await context.runtime();
    const password = options.passwordStdin ? await readPassword(context.streams.stdin) : undefined;
    const registry = {
      ...(options.username !== undefined && { username: options.username }),
      ...(password !== undefined && { password }),
      ...(options.mirror.length > 0 && { mirrors: options.mirror }),
      ...(options.plainHttp && { plainHttp: true }),
      ...(options.caFile !== undefined && { caFile: options.caFile }),
      ...(options.skipVerify && { skipVerify: true }),
    };
    const result = await context.withProgress((onProgress) =>
      images.pull(reference, {
        platform: options.platform,
        pullPolicy: options.policy,
        registry: Object.keys(registry).length > 0 ? registry : undefined,
        onProgress,
        signal: context.signal,
      }),
    );
    await printPulled(context, options.format, result);
  },
});

/** Tokens that registries hand out as passwords have a few kilobytes. */
const maxPasswordBytes = 64 * 1024;

async function readPassword(stdin: Context['streams']['stdin']): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxPasswordBytes) {
      throw new CryoboxError(
        'invalid_argument',
        `the password on stdin has more than ${maxPasswordBytes} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks)
    .toString()
    .replace(/\r?\n$/, '');
}

export const images = createGroup({
  name: 'images',
  aliases: ['image'],
  summary: 'images: pull, list, build, import, remove',
  commands: [list, inspect, pull, build, importImage, remove, prune],
});
