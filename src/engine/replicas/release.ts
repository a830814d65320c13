import { faultPoint } from '../../base/faults.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { putDocument } from '../../objects/index.js';
import { departuresTo, forgetDeparture, noteDeparture, release } from '../../store/index.js';
import { exclusively } from '../machines/locked.js';
import { removeBox } from '../machines/stop.js';
import { boxManifest, captureLocked } from './capture.js';
import type { ReplicasContext } from './context.js';
import { type BoxManifest, keyOf } from './layout.js';
import type { Shelf } from './shelf.js';
import type { Claim } from './writer.js';

/** Where a home is replicated to, opened and claimed. */
export interface OpenedPlace {
  readonly shelf: Shelf;
  readonly claim: Claim;
}

/**
 * Takes a box out of this home for good, once the store has all of it. One commit deletes it and notes what the store is
 * to be told: from then on it cannot run here, whatever happens, and nobody else can have it before the store was told.
 * Throws `invalid_state`, `stopped`, `not_found`, `cancelled`, and as a store does; the box is as before then.
 */
export async function takeOut(
  ctx: ReplicasContext,
  { shelf, claim }: OpenedPlace,
  boxId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  await exclusively(
    ctx,
    boxId,
    'release',
    async (row) => {
      const box = await captureLocked(ctx, boxId);
      if (!box) throw notAlone(boxId);
      try {
        const layers = await shelf.putLayers(ctx.layers, box.layers, { signal });
        const { epoch } = box.row;
        const manifest = JSON.stringify(boxManifest(box, layers));
        const departure = { box_id: boxId, epoch, store: claim.store, manifest };
        await removeBox(ctx, row, (tx) => noteDeparture(tx, departure));
        faultPoint('release.commit:after');
      } finally {
        await release(ctx.db, `replica:${boxId}`);
      }
    },
    signal,
  );
}

/** Tells the store of boxes that have left. Throws as a store does; they are told of later then. */
export async function tellDepartures(
  ctx: ReplicasContext,
  { shelf, claim }: OpenedPlace,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const departure of await departuresTo(ctx.db, claim.store)) {
    const { box_id, epoch, manifest } = departure;
    // Told already, when this was cut short after it: what another home has got is not offered again.
    const isTaken = (await shelf.store.head(keyOf.taken(box_id, epoch), { signal })) !== undefined;
    if (!isTaken) {
      const value = JSON.parse(manifest) as BoxManifest;
      await putDocument(shelf.store, keyOf.released(box_id, epoch), value, { signal });
    }
    faultPoint('release.put:after');
    await forgetDeparture(ctx.db, departure);
  }
}

/** Nothing but volumes keeps a box that stands still and is decided from being copied. */
function notAlone(boxId: string): CryoboxError {
  return new CryoboxError('invalid_state', 'cannot release a box with volumes: they stay on this host', {
    hint: 'Make a box without volumes from it: `cryobox clone`.',
    details: { box: boxId },
  });
}

/** The error of a box that is gone from here, while its store does not know it yet. */
export function leftAlready(boxId: string, error: unknown): unknown {
  if (!isCryoboxError(error)) return error;
  return new CryoboxError(error.code, `box ${boxId} has left this home, but ${error.message}`, {
    cause: error,
    hint: 'The engine tells the store as soon as it answers; adopt the box elsewhere then.',
    details: { box: boxId },
  });
}

/** The error of a home that nothing can leave. */
export function notReplicating(): CryoboxError {
  return new CryoboxError('invalid_state', 'cannot release a box: its home is not replicated', {
    hint: 'Start the engine with a store: `cryobox serve --replicate URL`, or CRYOBOX_REPLICATE.',
  });
}
