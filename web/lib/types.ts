/** What the API answers with, as far as the pages show it (docs/api.md, `GET /v1/openapi.json`). */

/** A box. */
export interface BoxJson {
  readonly box_id: string;
  readonly name: string | null;
  readonly status: string;
  readonly operation: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly last_activity_at: string;
  readonly image: string;
  readonly template: string | null;
  readonly cpus: number;
  readonly memory_mib: number;
  readonly disk_size_gb: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly failure: string | null;
  readonly exit_code: number | null;
  readonly main: { readonly command: readonly string[] } | null;
  readonly storage: { readonly disk_bytes: number; readonly memory_bytes: number };
}

/** A snapshot of a box. */
export interface SnapshotJson {
  readonly id: string;
  readonly name: string;
  readonly created_at_ms: number;
  readonly size_bytes: number;
  readonly exclusive_bytes: number;
  readonly has_memory: boolean;
  readonly parent: string | null;
  readonly consistency: string;
}

/** A file in a box. */
export interface FileJson {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly size_bytes: number;
  readonly mode: number;
  readonly modified_at: string;
  readonly link_target?: string;
}

/** An image. */
export interface ImageJson {
  readonly reference: string;
  readonly id: string;
  readonly size_bytes: number;
  readonly layer_count: number;
  readonly created_at?: string | null;
  readonly cached_at?: string;
}

/** A template. */
export interface TemplateJson {
  readonly name: string;
  readonly image: string;
  readonly vcpus: number;
  readonly memory_mb: number;
  readonly size_bytes: number;
  readonly created_at: string;
}

/** A volume. */
export interface VolumeJson {
  readonly id: string;
  readonly name: string;
  readonly created_at: string;
  readonly size_bytes: number;
  readonly used_bytes: number;
  readonly box_ids: readonly string[];
}

/** Something that happened. */
export interface EventJson {
  readonly at: string;
  readonly kind: 'box' | 'image' | 'template' | 'volume';
  readonly id: string;
  readonly change: string;
  readonly position: string;
}
