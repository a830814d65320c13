import { resolve } from 'node:path';
import { type ByteSource, boxLimits, type ImportOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { isOurs, type ReadArchive, type ReadMember, readArchive } from '../../formats/archive/index.js';
import { readHeader } from '../../formats/qcow2/index.js';
import { firstArchitecture } from '../../machine/index.js';
import {
  type BoxRow,
  insertBox,
  insertLayers,
  insertMemory,
  isUniqueViolation,
  type LayerRow,
  type MemoryRow,
  requireLayer,
} from '../../store/index.js';
import { importEnvText } from '../../surface/import-env.js';
import { roomOf } from '../core/limits.js';
import type { MachinesContext } from '../machines/context.js';
import { withEnv } from '../record/config.js';
import { nameTaken, refuseTakenName } from '../record/names.js';
import { type NewBox, newBoxRow } from '../record/new-row.js';
import { onlyOnce } from '../record/once.js';
import { announce } from '../record/rows.js';
import { checkEnv, checkName } from '../record/validate.js';
import { archiveMembers } from './export.js';
import { type ImportFacts, importFacts } from './import-facts.js';
import { adoptMemory } from './memory.js';

const bytesPerGb = 1024 ** 3;
/** The guest's own disk is small; this leaves room for what it may become. */
const maxGuestDiskBytes = bytesPerGb;

/** The heads of a box that is being made, what they stand on, and the golden machine they belong to. */
interface ImportedDisks {
  readonly guestBase: LayerRow;
  readonly diskBase: LayerRow;
  readonly guestHead: LayerRow;
  readonly diskHead: LayerRow;
  readonly goldenKey: string;
  readonly diskSizeGb: number;
}

/**
 * Makes a box from an archive: paused when its memory is taken, else stopped. Nothing is published before all of it is
 * verified; nothing of the archive is trusted: ids are new, options are checked as those of a new box, and memory is
 * taken only where the caller vouches for it. Throws `archive_invalid`, `payload_too_large`, `invalid_argument`,
 * `already_exists`, `not_found` without the file, `resource_exhausted`, `disk_full`, `cancelled`; nothing is left then.
 */
export async function importBox(
  ctx: MachinesContext,
  tenant: string,
  archive: string | ByteSource,
  options: ImportOptions,
): Promise<BoxRow> {
  if (options.name !== undefined) checkName(options.name);
  checkEnv(options.env);
  if (options.env) importEnvText(options.env);
  return await onlyOnce(ctx, tenant, options.operationId, (id) =>
    importNew(ctx, tenant, id, archive, options),
  );
}

async function importNew(
  ctx: MachinesContext,
  tenant: string,
  id: string,
  archive: string | ByteSource,
  options: ImportOptions,
): Promise<BoxRow> {
  const { name, signal, onProgress } = options;
  await refuseTakenName(ctx.db, tenant, name);
  using _ = ctx.imports.take(tenant);
  // Before gigabytes are read; what the archive asks for is admitted where it is stored.
  await ctx.limits.admit(ctx.db, tenant, { boxes: 1 });
  await using scratch = await ctx.scratch.take();
  const source = typeof archive === 'string' ? resolve(archive) : archive;
  const read = await readArchive({
    source,
    directory: scratch.path,
    durable: true,
    onManifest: (manifest) => refuseUnwantedMemory(importFacts(manifest), options.memory),
    signal,
    onProgress,
  });
  const archived = importFacts(read.manifest);
  const facts = { ...archived, config: withEnv(archived.config, options.env) };
  const made: LayerRow[] = [];
  try {
    const disks = await publishDisks(ctx, read, facts, made);
    const memory = options.memory ? await publishMemory(ctx, read, facts, disks, made, signal) : undefined;
    throwIfCancelled(signal, 'the import');
    // Before the commit names them, the files' names are durable.
    await ctx.layers.sync([]);
    const row = importedRow({ id, tenant, name: name ?? null }, facts, disks, memory);
    await ctx.commits.run(async (tx) => {
      await insertLayers(tx, made);
      if (memory) await insertMemory(tx, memory, [memory.layer_id]);
      await ctx.limits.admit(tx, tenant, roomOf(row));
      await insertBox(tx, row, []);
    });
    announce(ctx, row, 'created');
    ctx.counters.add(tenant, 'boxesCreatedTotal');
    ctx.activity.watch(row);
    return row;
  } catch (error) {
    for (const { id } of made) await ctx.layers.remove(id);
    if (isUniqueViolation(error) && name !== undefined) throw nameTaken(name);
    // What reading the archive failed with may be the caller's own, and is thrown as it is; this is the host's.
    throw wrapHostError(error, 'the import', 'internal');
  }
}

async function publishDisks(
  ctx: MachinesContext,
  read: ReadArchive,
  facts: ImportFacts,
  made: LayerRow[],
): Promise<ImportedDisks> {
  const disk = requireMember(read, archiveMembers.disk);
  const diskBytes = (await readHeader(disk.path)).virtualSizeBytes;
  const diskSizeGb = facts.diskSizeGb ?? Math.ceil(diskBytes / bytesPerGb);
  refuseOver(diskBytes, Math.min(diskSizeGb, boxLimits.diskSizeGb.max) * bytesPerGb, disk);
  let goldenKey = facts.goldenKey;
  let guestBase: LayerRow;
  if (isOurs(read.manifest)) {
    const guest = requireMember(read, archiveMembers.guest);
    const guestBytes = (await readHeader(guest.path)).virtualSizeBytes;
    refuseOver(guestBytes, maxGuestDiskBytes, guest);
    guestBase = await publish(ctx, guest, guestBytes, made);
  } else {
    // BoxLite keeps no guest disk of its own in an archive.
    const { architecture = firstArchitecture } = facts.config;
    const golden = await ctx.goldens.get({ architecture, cpus: facts.cpus, memoryMiB: facts.memoryMiB });
    goldenKey = golden.key;
    guestBase = await requireLayer(ctx.db, golden.row.guest_layer);
  }
  const diskBase = await publish(ctx, disk, diskBytes, made);
  const guestHead = await newHead(ctx, guestBase, guestBase.virtual_bytes, made);
  const diskHead = await newHead(ctx, diskBase, diskSizeGb * bytesPerGb, made);
  return { guestBase, diskBase, guestHead, diskHead, goldenKey, diskSizeGb };
}

/**
 * Device state goes into QEMU as it is, and QEMU does not defend itself against one that was made to attack it: whoever
 * wrote it could run code as the user of the machine. So a memory is taken when the caller says so, and never silently.
 */
function refuseUnwantedMemory({ memory }: ImportFacts, wanted: boolean | undefined): void {
  if (memory && wanted === undefined) {
    throw new CryoboxError(
      'invalid_argument',
      'the archive holds the memory of a box: say whether to take it',
      {
        hint: 'Set memory to true if you trust whoever made the archive as you trust a program, or to false for the disks only.',
      },
    );
  }
  if (!memory && wanted === true) {
    throw new CryoboxError('invalid_argument', 'the archive holds no memory', {
      hint: 'Leave memory out, or export the box with memory while it runs or is paused.',
    });
  }
}

async function publishMemory(
  ctx: MachinesContext,
  read: ReadArchive,
  { memory, cpus, memoryMiB }: ImportFacts,
  { guestBase, diskBase, goldenKey }: ImportedDisks,
  made: LayerRow[],
  signal: AbortSignal | undefined,
): Promise<MemoryRow | undefined> {
  if (!memory) return undefined;
  const disks = { guest: guestBase, disk: diskBase };
  const box = { cpus, memoryMiB, goldenKey, disks, signal };
  return await adoptMemory(ctx, { facts: memory, members: read.members, ...box }, made);
}

function requireMember(read: ReadArchive, name: string): ReadMember {
  const member = read.members.find((candidate) => candidate.name === name);
  if (member) return member;
  throw new CryoboxError('archive_invalid', `archive: it holds no ${name}`);
}

function refuseOver(bytes: number, limitBytes: number, member: ReadMember): void {
  if (bytes <= limitBytes) return;
  throw new CryoboxError(
    'archive_invalid',
    `archive: ${member.name} is a disk of ${bytes} bytes, at most ${limitBytes} are allowed`,
  );
}

async function publish(
  ctx: MachinesContext,
  member: ReadMember,
  virtualBytes: number,
  made: LayerRow[],
): Promise<LayerRow> {
  const facts = { kind: 'qcow2', parent_id: null, state: 'sealed', virtual_bytes: virtualBytes };
  const row = { ...ctx.layers.newRow(facts), sha256: member.sha256 };
  made.push(row);
  const sealed = await ctx.layers.publish(row, member.path);
  made[made.indexOf(row)] = sealed;
  return sealed;
}

async function newHead(
  ctx: MachinesContext,
  base: LayerRow,
  virtualBytes: number,
  made: LayerRow[],
): Promise<LayerRow> {
  const head = await ctx.layers.newHead(base, virtualBytes);
  made.push(head);
  return head;
}

function importedRow(
  identity: Pick<BoxRow, 'id' | 'tenant' | 'name'>,
  facts: ImportFacts,
  disks: ImportedDisks,
  memory: MemoryRow | undefined,
): BoxRow {
  const { id, ...owner } = identity;
  const row: NewBox = {
    ...owner,
    status: memory ? 'paused' : 'stopped',
    image: facts.image,
    template: null,
    cpus: facts.cpus,
    memory_mib: facts.memoryMiB,
    disk_size_gb: disks.diskSizeGb,
    config: JSON.stringify(facts.config),
    auto_stop: 0,
    auto_stop_action: 'stop',
    auto_delete: 0,
    auto_resume: 1,
    detach: 1,
    labels: JSON.stringify(facts.labels),
    guest_head: disks.guestHead.id,
    disk_head: disks.diskHead.id,
    golden_key: disks.goldenKey,
    snapshot_id: null,
    memory_id: memory?.id ?? null,
  };
  return newBoxRow(row, id);
}
