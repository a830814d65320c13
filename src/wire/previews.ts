import type { CreatedPreview, Preview, PreviewOptions } from '../api/index.js';
import { compact, date, type JsonObject, number, text, textOrNull } from './json.js';

/** Body of `POST {p}/boxes/{id}/previews`. */
export interface PreviewJson {
  readonly port: number;
  readonly access?: 'private' | 'public';
}

/** A preview that is to be made, on the wire. */
export function previewRequestToJson({ port, access }: PreviewOptions): PreviewJson {
  return compact({ port, access });
}

/** A preview on the wire; its token, when it was just made. */
export function previewToJson(preview: Preview & { readonly token?: string | null }): JsonObject {
  const { id, port, access, createdAt, url, token } = preview;
  return compact({ id, port, access, created_at: createdAt.toISOString(), url, token });
}

/** The inverse of {@link previewToJson}. */
export function previewFromJson(json: JsonObject): Preview {
  return {
    id: text(json, 'id'),
    port: number(json, 'port'),
    access: text(json, 'access') === 'public' ? 'public' : 'private',
    createdAt: date(json, 'created_at'),
    url: textOrNull(json, 'url'),
  };
}

/** The same of one that was just made. */
export function createdPreviewFromJson(json: JsonObject): CreatedPreview {
  return { ...previewFromJson(json), token: textOrNull(json, 'token') };
}
