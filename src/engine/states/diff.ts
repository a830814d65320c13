/** Changed files between two states of disks. */
import { type DiffOptions, type DiskDiff, type DiskState, diffLimits } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { diffDisks } from '../../formats/ext4/index.js';
import { type OpenDisks, openBoth } from '../../formats/qcow2/index.js';
import {
  type BoxRow,
  chainOf,
  findBoxNamed,
  findImage,
  findImageDisk,
  type LayerRow,
} from '../../store/index.js';
import { knownLayers } from '../layers/copy.js';
import type { MachinesContext } from '../machines/context.js';
import { exclusively } from '../machines/locked.js';
import { checkInteger } from '../record/integers.js';
import { requireRow } from '../record/rows.js';
import { requireSnapshot } from './require-snapshot.js';
import { checkSnapshotName } from './snapshot-name.js';

/** Base disks are at most as large, in GB: what is larger was grown by its box. */
const largestBaseGb = 10;

/** A state that was found: a snapshot or the image, which never change, or a box as it is. */
type Found =
  | { readonly kind: 'box'; readonly row: BoxRow }
  | { readonly kind: 'snapshot'; readonly row: BoxRow; readonly name: string }
  | { readonly kind: 'image'; readonly row: BoxRow };

/**
 * Compares two states of disks, a page of what differs. Boxes that are compared as they are stay locked meanwhile. Throws
 * `invalid_state` for one that runs, `not_found`, `invalid_argument` for states of different images or a wrong option, and
 * what `diffDisks` throws.
 */
export async function diffStates(
  ctx: MachinesContext,
  boxId: string,
  options: DiffOptions,
): Promise<DiskDiff> {
  const { limit = diffLimits.page, after, signal } = options;
  throwIfCancelled(signal, 'the comparison of two disks');
  checkInteger('limit', limit, 1, diffLimits.page);
  const row = await requireRow(ctx.db, boxId);
  const from =
    options.from === undefined
      ? ({ kind: 'image', row } as const)
      : await find(ctx, row, 'from', options.from);
  const to = await find(ctx, row, 'to', options.to ?? {});
  if (from.row.image !== to.row.image) throw differentImages(from.row, to.row);
  const compare = async (): Promise<DiskDiff> => {
    const [one, other] = [await chain(ctx, from), await chain(ctx, to)];
    if (one.at(-1)?.id === other.at(-1)?.id) return { changes: [], next: null };
    await using disks = await open(ctx, from, to, one, other);
    return await diffDisks(
      { chain: disks.from, what: nameOf(from) },
      { chain: disks.to, what: nameOf(to) },
      { limit, signal, ...(after === undefined ? {} : { after }) },
    );
  };
  return await whileStill(ctx, [from, to], compare, signal);
}

/** Runs a task while boxes that are states themselves do not change; in the order of their ids, so that none waits in a ring. */
async function whileStill(
  ctx: MachinesContext,
  states: readonly Found[],
  task: () => Promise<DiskDiff>,
  signal: AbortSignal | undefined,
): Promise<DiskDiff> {
  const ids = new Set(states.flatMap((it) => (it.kind === 'box' ? [it.row.id] : [])));
  return await [...ids]
    .sort()
    .reverse()
    .reduce((inner, id) => () => exclusively(ctx, id, 'diff', inner, signal), task)();
}

async function find(
  ctx: MachinesContext,
  row: BoxRow,
  option: string,
  state: string | DiskState,
): Promise<Found> {
  const { box, snapshot } = checkState(option, typeof state === 'string' ? { snapshot: state } : state);
  const found = box === undefined ? row : await findBoxNamed(ctx.db, row.tenant, box);
  if (!found) throw new CryoboxError('not_found', `there is no box ${JSON.stringify(box)}`);
  if (snapshot === undefined) return { kind: 'box', row: found };
  await requireSnapshot(ctx.db, found.id, snapshot);
  return { kind: 'snapshot', row: found, name: snapshot };
}

/** Throws `invalid_argument` unless a state is named in the words that states have. */
function checkState(option: string, state: DiskState): DiskState {
  const isObject = typeof state === 'object' && state !== null;
  for (const [name, value] of Object.entries(isObject ? state : { value: state })) {
    const isKnown = name === 'box' || name === 'snapshot';
    if (isKnown && (value === undefined || typeof value === 'string')) continue;
    throw new CryoboxError(
      'invalid_argument',
      `${option} should be the name of a snapshot, or {box, snapshot}`,
    );
  }
  if (state.snapshot !== undefined) checkSnapshotName(state.snapshot);
  return state;
}

/** The layers of a state, the base first. A box's are read under its lock. */
async function chain(ctx: MachinesContext, state: Found): Promise<LayerRow[]> {
  if (state.kind === 'image') return await imageChain(ctx, state.row);
  if (state.kind === 'snapshot') {
    const { disk_layer } = await requireSnapshot(ctx.db, state.row.id, state.name);
    return await chainOf(ctx.db, disk_layer);
  }
  return await chainOf(ctx.db, (await requireRow(ctx.db, state.row.id)).disk_head);
}

/** The disk of an image: what the box's own stands on, also when the image is gone; a copy that was merged stands on nothing. */
async function imageChain(ctx: MachinesContext, row: BoxRow): Promise<LayerRow[]> {
  const [bottom] = await chainOf(ctx.db, (await requireRow(ctx.db, row.id)).disk_head);
  if (bottom?.kind === 'raw') return [bottom];
  const image = await findImage(ctx.db, row.tenant, row.image);
  const sizeGb = Math.min(row.disk_size_gb, largestBaseGb);
  const disk = image && (await findImageDisk(ctx.db, { manifestDigest: image.manifest_digest, sizeGb }));
  if (disk) return [disk];
  throw new CryoboxError('invalid_state', `the image ${row.image} of the box is not in this home as a disk`, {
    hint: 'Compare with one of its snapshots: `cryobox diff BOX@SNAPSHOT BOX`.',
    details: { box: row.id, image: row.image },
  });
}

/** Opens both. What a snapshot stood on may go with it in between: that is told as a snapshot that is not there. */
async function open(
  ctx: MachinesContext,
  from: Found,
  to: Found,
  one: readonly LayerRow[],
  other: readonly LayerRow[],
): Promise<OpenDisks> {
  try {
    return await openBoth(knownLayers(ctx, one), knownLayers(ctx, other));
  } catch (error) {
    if (isCryoboxError(error, 'storage_error')) {
      for (const state of [from, to]) {
        if (state.kind === 'snapshot') await requireSnapshot(ctx.db, state.row.id, state.name);
      }
    }
    throw error;
  }
}

function nameOf(state: Found): string {
  const box = state.row.name ?? state.row.id;
  if (state.kind === 'image') return `image ${state.row.image}`;
  return state.kind === 'box' ? `box ${box}` : `box ${box} at snapshot ${JSON.stringify(state.name)}`;
}

function differentImages(one: BoxRow, other: BoxRow): CryoboxError {
  return new CryoboxError(
    'invalid_argument',
    `the states are of different disks: of the images ${one.image} and ${other.image}`,
    {
      hint: 'Compare states of one box, or of boxes that were made of the same image.',
      details: { images: [one.image, other.image] },
    },
  );
}
