import type { CallOptions, ProgressOptions } from './common.js';

/** An image that is here. */
export interface ImageInfo {
  /** Normalised reference, such as `docker.io/library/alpine:latest`. */
  readonly reference: string;
  readonly repository: string;
  readonly tag: string;
  /** Digest of its configuration, `sha256:...`. */
  readonly id: string;
  readonly manifestDigest: string;
  readonly layerCount: number;
  readonly cachedAt: Date;
  readonly sizeBytes: number;
}

/** What a pull or an import brought. */
export interface PullResult {
  readonly reference: string;
  readonly configDigest: string;
  readonly manifestDigest: string;
  readonly layerCount: number;
  readonly sizeBytes: number;
}

/** Credentials and addresses of the registry a reference names. */
export interface RegistryOptions {
  readonly username?: string;
  readonly password?: string;
  /** Base addresses tried first. */
  readonly mirrors?: readonly string[];
  /** Speak HTTP without TLS. @default false, but a registry on the engine's host is asked so when it has no TLS */
  readonly plainHttp?: boolean;
  /** PEM file of certificate authorities beside the system's, where the call is made. */
  readonly caFile?: string;
  /** Such certificates themselves, as PEM text. */
  readonly ca?: string;
  /** Take any certificate. @default false */
  readonly skipVerify?: boolean;
}

/** How an image is pulled. */
export interface PullOptions extends ProgressOptions {
  /** Such as `linux/amd64`. @default the host's */
  readonly platform?: string;
  /** `missing` asks the registry only when the reference is not here. @default 'always' */
  readonly pullPolicy?: 'always' | 'missing' | 'never';
  /** @default the owner's docker configuration (config.json); tenants of a server have none */
  readonly registry?: RegistryOptions;
}

/** How an image is made from Debian packages. */
export interface BuildOptions extends ProgressOptions {
  /** Debian suite, such as `bookworm`. */
  readonly fromDebian: string;
  /** @default none beside the base system */
  readonly packages?: readonly string[];
}

/** The images of a runtime. */
export interface Images {
  pull(reference: string, options?: PullOptions): Promise<PullResult>;
  /** From an OCI layout directory or a docker-archive or OCI tar on the engine's host. */
  import(path: string, options?: ProgressOptions & { readonly reference?: string }): Promise<PullResult>;
  /** Builds `name` from Debian packages. */
  build(name: string, options: BuildOptions): Promise<PullResult>;
  list(options?: CallOptions): Promise<ImageInfo[]>;
  /** By reference or id; null when there is none. */
  get(reference: string, options?: CallOptions): Promise<ImageInfo | null>;
  /** `invalid_state` while boxes use it, unless forced: they keep their layers. */
  remove(reference: string, options?: CallOptions & { readonly force?: boolean }): Promise<void>;
  /** Removes images no box uses; returns their references. */
  prune(options?: CallOptions): Promise<string[]>;
}
