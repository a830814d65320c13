import type { AdoptOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { faultPoint } from '../../base/faults.js';
import { isId, newId } from '../../base/ids.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import { type ObjectStore, openObjectStore, putDocument, readDocument } from '../../objects/index.js';
import {
  type BoxRow,
  findBox,
  findLayers,
  insertArrival,
  isUniqueViolation,
  keepHomeId,
  type LayerRow,
} from '../../store/index.js';
import { roomOf } from '../core/limits.js';
import { nameTaken, refuseTakenName } from '../record/names.js';
import { announce } from '../record/rows.js';
import { checkName } from '../record/validate.js';
import type { ReplicasContext } from './context.js';
import { withHeads } from './heads.js';
import { fetchLayer, readLayerIndex } from './layer-objects.js';
import { type BoxManifest, keyOf, storeFormat, type TakenDocument } from './layout.js';
import { findReleased } from './released.js';
import { nothingThere } from './survey.js';
import { storeId } from './writer.js';

/**
 * Brings a box that its home has released into this one, with its id, and its snapshots. It is fetched and verified whole;
 * then the store is told who has it, which only one home ever does for each release, and then one commit makes it true.
 * Cut short it can be done again, here only once the store was told. Throws `not_found`, `conflict` when another home
 * has it, `already_exists`, `integrity`, `resource_exhausted`, `disk_full`, `cancelled`, and as a store does.
 */
export async function adoptBox(
  ctx: ReplicasContext,
  tenant: string,
  address: string,
  options: AdoptOptions,
): Promise<BoxRow> {
  const { box: idOrName, name, signal } = options;
  throwIfCancelled(signal, 'the adoption of a box');
  if (name !== undefined) checkName(name);
  await using store = await openObjectStore(address);
  if ((await storeId(store)) === undefined) throw nothingThere(store);
  const manifest = await findReleased(store, tenant, idOrName, { signal });
  const own = await findBox(ctx.db, manifest?.box.id ?? idOrName);
  if (manifest && own) return await settle(ctx, store, manifest, own);
  // Asked for once more: it came here from another home.
  if (own?.tenant === tenant && own.epoch > 1) return own;
  if (!manifest) throw notReleased(store, idOrName);
  checkForm(manifest);
  return await bring(ctx, tenant, store, manifest, options);
}

async function bring(
  ctx: ReplicasContext,
  tenant: string,
  store: ObjectStore,
  manifest: BoxManifest,
  { name, signal }: AdoptOptions,
): Promise<BoxRow> {
  const wanted = { ...manifest.box, name: name ?? manifest.box.name };
  await refuseTakenName(ctx.db, tenant, wanted.name ?? undefined);
  // Before gigabytes are read; once more where it is stored.
  await ctx.limits.admit(ctx.db, tenant, roomOf(wanted));
  const home = await keepHomeId(ctx.db, newId('opn'));
  await refuseTaken(store, manifest, home, signal);
  // Nothing holds the layers until the commit, and two that arrive may share some: nothing is collected, one comes at a time.
  return await ctx.gc.apart(async () => {
    const own = await findBox(ctx.db, wanted.id);
    if (own) return await settle(ctx, store, manifest, own);
    const made: LayerRow[] = [];
    try {
      await fetchMissing(ctx, store, manifest, made, signal);
      const ids = manifest.layers.map((it) => it.row.id);
      const here = [...(await findLayers(ctx.db, ids)), ...made];
      const { row, heads } = await withHeads(
        { ...manifest, box: wanted },
        new Map(here.map((it) => [it.id, it])),
        ctx.layers,
      );
      made.push(...heads);
      await ctx.layers.sync([]);
      throwIfCancelled(signal, 'the adoption of a box');
      await take(store, manifest, home);
      faultPoint('adopt.claim:after');
      const box = { ...row, epoch: epochOf(manifest) + 1 };
      await ctx.commits.run(async (tx) => {
        await ctx.limits.admit(tx, tenant, roomOf(box));
        const { memories, snapshots } = manifest;
        await insertArrival(tx, { box, layers: made, memories, snapshots });
      });
      faultPoint('adopt.commit:after');
      announce(ctx, box, 'created');
      ctx.activity.watch(box);
      await forget(ctx, store, manifest);
      return box;
    } catch (error) {
      if (!(await findBox(ctx.db, wanted.id))) for (const { id } of made) await ctx.layers.remove(id);
      throw isUniqueViolation(error) && wanted.name !== null ? nameTaken(wanted.name) : error;
    }
  }, signal);
}

/** Layers that are here are the same: their ids are never used for anything else. */
async function fetchMissing(
  ctx: ReplicasContext,
  store: ObjectStore,
  { layers }: BoxManifest,
  made: LayerRow[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const here = new Set(
    (
      await findLayers(
        ctx.db,
        layers.map((it) => it.row.id),
      )
    ).map(({ id }) => id),
  );
  for (const { row, index } of layers) {
    if (here.has(row.id)) continue;
    const found = await readLayerIndex(store, row.id, index, { signal });
    // An attempt that was killed may have left a file that nobody may write.
    await ctx.layers.remove(row.id);
    made.push(row);
    await fetchLayer(store, found, ctx.layers.path(row.id), { signal });
    await ctx.layers.seal(row.id);
  }
}

/** Becomes the home that has the box. Once it is begun it is not given up half way: nobody else could have the box then. */
async function take(store: ObjectStore, manifest: BoxManifest, home: string): Promise<void> {
  const document: TakenDocument = { home, at: new Date().toISOString() };
  try {
    await putDocument(store, takenKey(manifest), document, { ifAbsent: true });
  } catch (error) {
    if (!isCryoboxError(error, 'already_exists')) throw error;
    await refuseTaken(store, manifest, home, undefined);
  }
}

async function refuseTaken(
  store: ObjectStore,
  manifest: BoxManifest,
  home: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!(await store.head(takenKey(manifest), { signal }))) return;
  const { value } = await readDocument(store, takenKey(manifest), { signal });
  const other = (value as TakenDocument).home;
  if (other === home) return;
  throw new CryoboxError('conflict', `another home (${other}) has got box ${manifest.box.id}`, {
    hint: 'Use it there, or release it there and adopt it from the store of that home.',
    details: { box: manifest.box.id, home: other },
  });
}

/** Ends what an earlier attempt began: the box is here. */
async function settle(
  ctx: ReplicasContext,
  store: ObjectStore,
  manifest: BoxManifest,
  own: BoxRow,
): Promise<BoxRow> {
  if (own.epoch <= epochOf(manifest)) {
    throw new CryoboxError(
      'already_exists',
      `box ${own.id} is in this home, which is a copy of the one it left`,
    );
  }
  await forget(ctx, store, manifest);
  return own;
}

/** Its store need keep nothing of it any more. A failure leaves what the next attempt, or nobody, removes. */
async function forget(ctx: ReplicasContext, store: ObjectStore, manifest: BoxManifest): Promise<void> {
  try {
    await store.remove([keyOf.released(manifest.box.id, epochOf(manifest))]);
  } catch (error) {
    ctx.logger.warn('cannot tell a store that it need not keep a box', {
      box: manifest.box.id,
      reason: messageOf(error),
    });
  }
}

/** A release of before epochs says none. */
function epochOf({ box }: BoxManifest): number {
  return box.epoch ?? 1;
}

function takenKey(manifest: BoxManifest): string {
  return keyOf.taken(manifest.box.id, epochOf(manifest));
}

/** What becomes names of files and folders is looked at; the rest is believed, as is who names the store. */
function checkForm({ format, box, layers, disks }: BoxManifest): void {
  const ids = [disks.guest, disks.disk, ...layers.map(({ row }) => row.id)];
  if (format === storeFormat && isId('box', box.id) && ids.every((id) => isId('lay', id))) return;
  throw new CryoboxError('integrity', `the record of box ${box.id} is none of this release`, {
    hint: 'Use the release that wrote it, or a newer one.',
  });
}

function notReleased(store: ObjectStore, idOrName: string): CryoboxError {
  return new CryoboxError('not_found', `no box ${JSON.stringify(idOrName)} was released to ${store.name}`, {
    hint: 'Release it where it is: `cryobox release BOX`. A home that is lost is brought back with `cryobox recover`.',
  });
}
