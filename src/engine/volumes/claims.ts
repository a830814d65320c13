import { Mutex } from '../../base/mutex.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, type Database, volumeHolder } from '../../store/index.js';
import type { Attachment, Claim } from './attachment.js';
import { attachmentsOf } from './attachments.js';
import type { VolumeKeeper } from './context.js';

/** A box in one of these states has its volumes: a machine runs, or a memory has them mounted. */
const holding = ['running', 'stopping', 'paused'];

const nothing: Claim = { attachments: [], [Symbol.dispose]: () => undefined };

/**
 * Who may have a volume now: one box that writes it, or any number that only read it. That is what the states of boxes
 * in the database say, and what is coming up right now, which is known here; a crash leaves nothing to be undone.
 */
export class VolumeClaims implements VolumeKeeper {
  readonly #db: Database;
  readonly #mutex = new Mutex();
  /** Boxes that are coming up. */
  readonly #comingUp = new Set<string>();

  constructor(db: Database) {
    this.#db = db;
  }

  async claim(box: BoxRow): Promise<Claim> {
    const attachments = await attachmentsOf(this.#db, box);
    if (attachments.length === 0) return nothing;
    await this.#mutex.run(async () => {
      for (const attachment of attachments) await this.#refuseHeld(box, attachment);
      this.#comingUp.add(box.id);
    });
    const letGo = (): void => {
      this.#comingUp.delete(box.id);
    };
    return { attachments, [Symbol.dispose]: letGo };
  }

  async #refuseHeld(box: BoxRow, { volumeId, name, readOnly }: Attachment): Promise<void> {
    const holder = await volumeHolder(this.#db, {
      volumeId,
      exceptBox: box.id,
      statuses: holding,
      alsoBoxes: this.#comingUp,
      writersOnly: readOnly,
    });
    if (!holder) return;
    const how = holder.readOnly ? 'only reads it' : 'may write it';
    const who = `box ${holder.name ?? holder.id}, which is ${holder.status} and ${how}`;
    throw new CryoboxError('conflict', `volume "${name}" is in use by ${who}`, {
      hint: 'Stop that box first. Many boxes can have a volume at once when all of them mount it read-only.',
      details: { volume: volumeId, box: holder.id, status: holder.status },
    });
  }
}
