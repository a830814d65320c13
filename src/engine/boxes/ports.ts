import type { BoxPorts, CallOptions, PublishedPort, PublishOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { exclusively } from '../machines/locked.js';
import { checkPort } from '../record/ports.js';
import { requireRow, updateBox } from '../record/rows.js';
import type { EngineContext } from './context.js';

/** The published ports of a box of the engine. */
export class EnginePorts implements BoxPorts {
  readonly #ctx: EngineContext;
  readonly #id: string;

  constructor(ctx: EngineContext, id: string) {
    this.#ctx = ctx;
    this.#id = id;
  }

  async list({ signal }: CallOptions = {}): Promise<PublishedPort[]> {
    throwIfCancelled(signal, 'the look at published ports');
    await requireRow(this.#ctx.db, this.#id);
    return this.#ctx.ports.of(this.#id);
  }

  async publish({ signal, ...port }: PublishOptions & CallOptions): Promise<PublishedPort> {
    checkPort(port);
    const publish = async (): Promise<PublishedPort> => {
      const published = await this.#ctx.ports.publish(this.#id, port);
      await updateBox(this.#ctx, this.#id, {});
      return published;
    };
    return await exclusively(this.#ctx, this.#id, 'ports.change', publish, signal);
  }

  async unpublish(
    hostPort: number,
    { signal, hostIp }: CallOptions & { readonly hostIp?: string } = {},
  ): Promise<void> {
    const end = async (): Promise<void> => {
      await this.#ctx.ports.unpublish(this.#id, hostPort, hostIp);
      await updateBox(this.#ctx, this.#id, {});
    };
    await exclusively(this.#ctx, this.#id, 'ports.change', end, signal);
  }
}
