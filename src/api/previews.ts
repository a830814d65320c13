import type { CallOptions } from './common.js';

/** Who a preview is for: who has its token, or everybody who knows its address. */
export const previewAccesses = ['private', 'public'] as const;

/** Who a preview is for: {@link previewAccesses}. */
export type PreviewAccess = (typeof previewAccesses)[number];

/** The header, the parameter of an address and the cookie in which a private preview gets its token. */
export const previewToken = 'cryobox-preview-token';

/** A preview that is to be made. */
export interface PreviewOptions {
  /** Port in the box, 1 to 65535; the program may listen on 127.0.0.1 or ::1 there. */
  readonly port: number;
  /** @default 'private' */
  readonly access?: PreviewAccess | undefined;
}

/** An address of its own for a port of a box: HTTP/1.1 with its upgrades, streamed both ways. */
export interface Preview {
  readonly id: string;
  readonly port: number;
  readonly access: PreviewAccess;
  readonly createdAt: Date;
  /** Such as `http://3000-p01k9c….localhost:8100/`; null while no server of REST serves the home (`cryobox serve`). */
  readonly url: string | null;
}

/** A preview that was made just now. */
export interface CreatedPreview extends Preview {
  /** Opens a private one, by {@link previewToken}; it is kept nowhere, and told this once. Null of a public one. */
  readonly token: string | null;
}

/**
 * The previews of a box: a server of REST passes what comes to their addresses on to the box, which it brings up when its
 * `autoResume` allows. They belong to this box, at most 32: forks, clones, templates and archives have none.
 */
export interface BoxPreviews {
  /** In the order in which they were made. */
  list(options?: CallOptions): Promise<Preview[]>;
  /** Makes one, each time another. `invalid_argument` for a bad port or access, `resource_exhausted` over 32. */
  create(options: PreviewOptions & CallOptions): Promise<CreatedPreview>;
  /** Ends one, and cuts off what goes through it. `not_found` when it is none of the box's. */
  remove(id: string, options?: CallOptions): Promise<void>;
}
