import {
  type BoxPreviews,
  type CallOptions,
  type CreatedPreview,
  type Preview,
  type PreviewAccess,
  type PreviewOptions,
  previewAccesses,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import { exclusively } from '../machines/locked.js';
import { checkInteger } from '../record/integers.js';
import { requireRow } from '../record/rows.js';
import type { EngineContext } from './context.js';

const maxPort = 65_535;

/** The previews of a box of the engine. */
export class EnginePreviews implements BoxPreviews {
  readonly #ctx: EngineContext;
  readonly #id: string;

  constructor(ctx: EngineContext, id: string) {
    this.#ctx = ctx;
    this.#id = id;
  }

  async list({ signal }: CallOptions = {}): Promise<Preview[]> {
    throwIfCancelled(signal, 'the look at previews');
    await requireRow(this.#ctx.db, this.#id);
    return await this.#ctx.previews.of(this.#id);
  }

  async create({ signal, ...options }: PreviewOptions & CallOptions): Promise<CreatedPreview> {
    check(options);
    const create = (): Promise<CreatedPreview> => this.#ctx.previews.create(this.#id, options);
    return await exclusively(this.#ctx, this.#id, 'ports.change', create, signal);
  }

  async remove(id: string, { signal }: CallOptions = {}): Promise<void> {
    const remove = (): Promise<void> => this.#ctx.previews.remove(this.#id, id);
    await exclusively(this.#ctx, this.#id, 'ports.change', remove, signal);
  }
}

function check({ port, access }: PreviewOptions): void {
  if (port === undefined) throw new CryoboxError('invalid_argument', 'port is missing');
  checkInteger('port', port, 1, maxPort);
  if (access !== undefined) checkAccess(access);
}

/** Throws `invalid_argument` unless it says who something is for. */
export function checkAccess(access: PreviewAccess): void {
  if (previewAccesses.includes(access)) return;
  const got = JSON.stringify(String(access).slice(0, 60));
  throw new CryoboxError('invalid_argument', `access must be ${previewAccesses.join(' or ')}, got ${got}`);
}
