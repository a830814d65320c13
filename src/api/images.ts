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

/** How an image is imported. */
export interface ImportImageOptions extends ProgressOptions {
  /** @default the name in the source */
  readonly reference?: string;
  /** Such as `linux/arm64`. @default the host's */
  readonly platform?: string;
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

/**
 * Named contents of images: a language with git, curl, sudo and a user `user` beside root; `desktop`: a screen without
 * hardware, a window manager, a browser and what works them.
 */
export const imageRecipes = ['python', 'node', 'go', 'desktop'] as const;

/** A name of {@link imageRecipes}. */
export type ImageRecipe = (typeof imageRecipes)[number];

/** How an image is made from Debian packages; without a recipe the release must be named. */
export interface BuildOptions extends ProgressOptions {
  /** Debian suite, such as `bookworm`. @default that of the recipe */
  readonly fromDebian?: string | undefined;
  /** Beside the base system, and beside what the recipe has. @default none */
  readonly packages?: readonly string[] | undefined;
  /** @default none: the base system alone */
  readonly recipe?: ImageRecipe | undefined;
}

/** How an image is removed. */
export interface RemoveImageOptions extends CallOptions {
  /** Also while boxes use it. @default false */
  readonly force?: boolean;
  /** The reference is a name without tag, and all images of it go, or none. @default false: the tag `latest` is meant */
  readonly allTags?: boolean;
}

/** The images of a runtime. */
export interface Images {
  /** Gets an image from a registry, or says that the one here is the newest. `not_found`, `network_unavailable`. */
  pull(reference: string, options?: PullOptions): Promise<PullResult>;
  /** From an OCI layout directory or a docker-archive or OCI tar on the engine's host. */
  import(path: string, options?: ImportImageOptions): Promise<PullResult>;
  /** Builds `name` from Debian packages. */
  build(name: string, options: BuildOptions): Promise<PullResult>;
  /** All of them, by reference. */
  list(options?: CallOptions): Promise<ImageInfo[]>;
  /** By reference or id; null when there is none. */
  get(reference: string, options?: CallOptions): Promise<ImageInfo | null>;
  /** Every image of one name without tag or digest, such as `alpine`, the newest first. `invalid_argument` with a tag. */
  named(name: string, options?: CallOptions): Promise<ImageInfo[]>;
  /**
   * Gives an image of a name one more tag. `digest` is that of its manifest or configuration. `image_not_found`,
   * `already_exists` for a tag that is there.
   */
  alias(name: string, tag: string, digest: string, options?: CallOptions): Promise<ImageInfo>;
  /** `invalid_state` while boxes use it, unless forced: they keep their layers. */
  remove(reference: string, options?: RemoveImageOptions): Promise<void>;
  /** Removes images no box uses; returns their references. */
  prune(options?: CallOptions): Promise<string[]>;
}
