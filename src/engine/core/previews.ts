import { createHash, randomBytes } from 'node:crypto';
import type { CreatedPreview, Preview, PreviewAccess, PreviewOptions } from '../../api/index.js';
import { Cuts } from '../../base/cuts.js';
import { isId, newId } from '../../base/ids.js';
import { isSecret } from '../../base/secret.js';
import { CryoboxError } from '../../errors.js';
import {
  type Database,
  deletePreview,
  findPreview,
  findPublicBox,
  type GroupCommit,
  insertPreview,
  type PreviewRow,
  previewsOf,
  setPublic,
} from '../../store/index.js';

const maxOfBox = 32;
/** Guessed by nobody: 192 bits. */
const tokenBytes = 24;

/** The label of a port of a public box: the port, and the box's id without its prefix. */
const publicLabel = /^\d{1,5}-b([0-9a-z]{26})$/i;

/** A preview that a request is for. */
export interface FoundPreview {
  readonly boxId: string;
  readonly tenant: string;
  readonly access: PreviewAccess;
  /** Whether a request brings the box up, as far as its `autoResume` allows. */
  readonly wakes: boolean;
  /** Whether a text is the token of a private one, in a time that tells nothing about it. */
  isToken(text: string): boolean;
  /** Something that goes through it: its signal is raised when the preview is removed. To be disposed of at its end. */
  watch(): { readonly signal: AbortSignal } & Disposable;
}

/** The previews of a home. Their tokens are kept as hashes, so that whoever reads the database opens nothing. */
export class Previews {
  readonly #db: Database;
  readonly #commits: GroupCommit;
  readonly #cuts = new Cuts();
  #base: URL | undefined;

  constructor({ db, commits }: { readonly db: Database; readonly commits: GroupCommit }) {
    this.#db = db;
    this.#commits = commits;
  }

  /** They are served from now on, at names below the host of this URL; undefined: no more. */
  serveAt(base: URL | undefined): void {
    this.#base = base;
  }

  /** Those of a box, in the order in which they were made. */
  async of(boxId: string): Promise<Preview[]> {
    return (await previewsOf(this.#db, boxId)).map((row) => this.#told(row));
  }

  /** Makes one of a box. Called under the box's lock. Throws `resource_exhausted`. */
  async create(boxId: string, { port, access = 'private' }: PreviewOptions): Promise<CreatedPreview> {
    const count = (await previewsOf(this.#db, boxId)).length;
    if (count >= maxOfBox) {
      throw new CryoboxError('resource_exhausted', `the box has ${maxOfBox} previews already`, {
        hint: 'Remove previews that are not needed any more: `cryobox preview BOX --rm ID`.',
        details: { limit: maxOfBox },
      });
    }
    const token = access === 'public' ? null : randomBytes(tokenBytes).toString('base64url');
    const row: PreviewRow = {
      id: newId('prv'),
      box_id: boxId,
      guest_port: port,
      token_hash: token === null ? null : hashOf(token),
      created_at: Date.now(),
    };
    await this.#commits.run((tx) => insertPreview(tx, row));
    return { ...this.#told(row), token };
  }

  /** Ends one of a box, and what goes through it. Called under the box's lock. Throws `not_found`. */
  async remove(boxId: string, id: string): Promise<void> {
    if (!(await previewsOf(this.#db, boxId)).some((row) => row.id === id)) throw missing(boxId, id);
    await this.#commits.run((tx) => deletePreview(tx, id));
    this.#cuts.cut(id);
  }

  /** Who reaches the ports of a box by their addresses. */
  async inboundOf(boxId: string): Promise<PreviewAccess> {
    return (await findPublicBox(this.#db, boxId)) ? 'public' : 'private';
  }

  /** Makes the ports of a box public, or private: that cuts off what goes through. Called under the box's lock. */
  async setInbound(boxId: string, access: PreviewAccess): Promise<void> {
    await this.#commits.run((tx) => setPublic(tx, boxId, access === 'public'));
    if (access === 'private') this.#cuts.cut(boxId);
  }

  /** The preview, or the port of a public box, that a host name stands for by its first label, whoever has it. Undefined when there is none. */
  async find(label: string): Promise<FoundPreview | undefined> {
    if (publicLabel.test(label)) return await this.#findPublic(label);
    const [, port, end] = /^(\d{1,5})-p([0-9a-z]{26})$/i.exec(label) ?? [];
    const id = `prv_${end?.toLowerCase()}`;
    const row = isId('prv', id) ? await findPreview(this.#db, id) : undefined;
    if (!row || row.guest_port !== Number(port)) return undefined;
    const { box_id: boxId, tenant, token_hash: hash } = row;
    return {
      boxId,
      tenant,
      access: accessOf(row),
      wakes: true,
      isToken: (text) => hash !== null && isSecret(hash, hashOf(text)),
      watch: () => this.#cuts.add(id),
    };
  }

  async #findPublic(label: string): Promise<FoundPreview | undefined> {
    const boxId = `box_${publicLabel.exec(label)?.[1]?.toLowerCase()}`;
    const found = isId('box', boxId) ? await findPublicBox(this.#db, boxId) : undefined;
    if (!found) return undefined;
    const access = 'public';
    // By BoxLite's dialect traffic to a port never brings a box up.
    return {
      ...found,
      boxId,
      access,
      wakes: false,
      isToken: () => false,
      watch: () => this.#cuts.add(boxId),
    };
  }

  #told(row: PreviewRow): Preview {
    const { id, guest_port: port, created_at: at } = row;
    return { id, port, access: accessOf(row), createdAt: new Date(at), url: this.#urlOf(row) };
  }

  #urlOf({ id, guest_port: port }: PreviewRow): string | null {
    if (!this.#base) return null;
    return `${this.#base.protocol}//${port}-p${id.slice('prv_'.length)}.${this.#base.host}/`;
  }
}

const accessOf = ({ token_hash }: PreviewRow): PreviewAccess => (token_hash === null ? 'public' : 'private');

const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

const missing = (box: string, preview: string): CryoboxError =>
  new CryoboxError('not_found', `box ${box} has no preview ${JSON.stringify(preview)}`, {
    hint: '`cryobox preview BOX` lists those that it has.',
    details: { box, preview },
  });
