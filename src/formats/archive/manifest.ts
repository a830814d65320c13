import { z } from 'zod';
import { parseJson } from '../../base/json.js';
import { messageOf } from '../../errors.js';
import { ARCHIVE_VERSION, invalidArchive, isMemberName, MAX_MANIFEST_BYTES, MAX_MEMBERS } from './format.js';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const member = z.strictObject({
  name: z.string().refine(isMemberName, 'not a plain member name'),
  sha256,
  sizeBytes: z.int().min(0),
});
const shape = z.strictObject({
  cpus: z.int().min(1),
  memoryMiB: z.int().min(1),
  diskSizeGb: z.int().min(1),
});
const ours = z.strictObject({
  version: z.literal(ARCHIVE_VERSION),
  boxName: z.string().max(255).optional(),
  image: z.string().max(1024).optional(),
  shape,
  /** Options of the box, without secrets; the engine knows their form. */
  options: z.record(z.string(), z.json()).default({}),
  members: z.array(member).min(1).max(MAX_MEMBERS),
  exportedAt: z.iso.datetime(),
  /** Facts about the memory that is among the members; the engine knows their form. */
  memory: z.record(z.string(), z.json()).optional(),
});

/** BoxLite 0.10's manifest: v1 contract, section 3.5. */
const boxlite = z.object({
  version: z.union([z.literal(3), z.literal(4), z.literal(5)]),
  box_name: z.string().max(255).nullish(),
  image: z.string().max(1024).nullish(),
  box_options: z.record(z.string(), z.json()).nullish(),
  guest_disk_checksum: z.literal('').nullish(),
  container_disk_checksum: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  exported_at: z.string().nullish(),
});

/** Values in a manifest: an environment of some thousand variables and the facts about a memory. */
const MAX_MANIFEST_VALUES = 20_000;

/** Size and hash of one member of an archive. */
export type ArchiveMember = z.infer<typeof member>;

/** What an archive says of the box, without version, members and time. */
export type ArchiveFacts = Pick<z.input<typeof ours>, 'boxName' | 'image' | 'shape' | 'options' | 'memory'>;

/** The manifest of a version 6 archive. */
export type Manifest = z.infer<typeof ours>;

/** What an archive of BoxLite says; `options` in BoxLite's form. Its only member is `disk.qcow2`. */
export interface BoxliteManifest {
  readonly version: 3 | 4 | 5;
  readonly boxName?: string;
  readonly image?: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly diskSha256: string;
  /** Size of its disk, where its options say so. */
  readonly diskSizeGb?: number;
}

/** A manifest read from an archive. */
export type AnyManifest = Manifest | BoxliteManifest;

/** The manifest as text; its length does not depend on the hashes. Throws `archive_invalid` when it is not valid. */
export function encodeManifest(manifest: Manifest): Buffer {
  const checked = ours.safeParse(manifest);
  if (!checked.success) throw invalidArchive(`cannot write this manifest: ${z.prettifyError(checked.error)}`);
  const bytes = Buffer.from(`${JSON.stringify(checked.data, null, 2)}\n`);
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw invalidArchive(`a manifest of ${bytes.length} bytes exceeds ${MAX_MANIFEST_BYTES}`);
  }
  return bytes;
}

/** Reads a manifest of version 3 to 6. Throws `archive_invalid`. */
export function parseManifest(bytes: Buffer): AnyManifest {
  let value: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = parseJson(text, { maxValues: MAX_MANIFEST_VALUES });
  } catch (error) {
    throw invalidArchive(`manifest.json is not JSON: ${messageOf(error)}`, error);
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (version === ARCHIVE_VERSION) return parseOurs(value);
  if (version === 3 || version === 4 || version === 5) return parseBoxlite(value);
  throw invalidArchive(`manifest version ${JSON.stringify(version)} is not one of 3, 4, 5, 6`);
}

/** Whether a manifest is of our own version. */
export function isOurs(manifest: AnyManifest): manifest is Manifest {
  return manifest.version === ARCHIVE_VERSION;
}

function parseOurs(value: unknown): Manifest {
  const parsed = ours.safeParse(value);
  if (!parsed.success) throw invalidArchive(`manifest.json: ${z.prettifyError(parsed.error)}`);
  const { members } = parsed.data;
  if (new Set(members.map(({ name }) => name)).size !== members.length) {
    throw invalidArchive('manifest.json lists a member twice');
  }
  return parsed.data;
}

function parseBoxlite(value: unknown): BoxliteManifest {
  const parsed = boxlite.safeParse(value);
  if (!parsed.success) throw invalidArchive(`manifest.json: ${z.prettifyError(parsed.error)}`);
  const { version, box_name, image, box_options, container_disk_checksum } = parsed.data;
  const size = z.int().min(1).safeParse(box_options?.disk_size_gb);
  return {
    version,
    boxName: box_name ?? undefined,
    image: image ?? undefined,
    options: box_options ?? {},
    diskSha256: container_disk_checksum.slice('sha256:'.length),
    ...(size.success ? { diskSizeGb: size.data } : {}),
  };
}
