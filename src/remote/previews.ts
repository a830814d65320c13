import type { BoxPreviews, CallOptions, CreatedPreview, Preview, PreviewOptions } from '../api/index.js';
import { asObject, asObjects } from '../wire/json.js';
import { createdPreviewFromJson, previewFromJson, previewRequestToJson } from '../wire/previews.js';
import { segment, type Transport } from './transport.js';

/** The previews of a box behind a server. */
export class RemotePreviews implements BoxPreviews {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/previews`;
  }

  async list({ signal }: CallOptions = {}): Promise<Preview[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
    return asObjects(answer['previews'], 'previews').map(previewFromJson);
  }

  async create({ signal, ...preview }: PreviewOptions & CallOptions): Promise<CreatedPreview> {
    const json = previewRequestToJson(preview);
    return createdPreviewFromJson(
      asObject(await this.#transport.json({ method: 'POST', path: this.#path, json, signal })),
    );
  }

  async remove(id: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: `${this.#path}/${segment(id)}`, signal });
  }
}
