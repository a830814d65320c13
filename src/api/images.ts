import type { ByteInput, CallOptions, ProgressOptions } from './common.js';

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

/**
 * How an image is made by the steps of a Dockerfile, which run in boxes (docs/building.md). Progress tells `step` with the
 * step as `item`, and `output` with a line that a step wrote.
 */
export interface DockerfileBuildOptions extends ProgressOptions {
  /** Directory of the files that COPY takes, where the call is made, or a tar of them. @default none: no file is copied */
  readonly context?: string | ByteInput | undefined;
  /**
   * Path of the Dockerfile: where the call is made or, when the context is a tar, in that. @default `Dockerfile` in the
   * context; without a context it must be given, or its text
   */
  readonly dockerfile?: string | undefined;
  /** The steps themselves, in the place of a file. */
  readonly dockerfileText?: string | undefined;
  /** Values of ARG. They are part of what results are known by, and no place for passwords. @default none */
  readonly buildArgs?: Readonly<Record<string, string>> | undefined;
  /** The stage that is built. @default the last one */
  readonly target?: string | undefined;
  /** Runs every step, whatever is known of earlier builds. @default false */
  readonly noCache?: boolean | undefined;
  /** Processors of the boxes that steps run in. @default 1 */
  readonly cpus?: number | undefined;
  /** Memory of the boxes that steps run in. @default 1024 */
  readonly memoryMiB?: number | undefined;
}

/** Limits of builds from a Dockerfile. */
export const buildLimits = {
  /** Bytes of a Dockerfile: two hundred times a long one. */
  dockerfileBytes: 1024 * 1024,
  /** Steps of a Dockerfile: an image has at most 127 layers. */
  steps: 1000,
  /** Files of a context. */
  contextEntries: 200_000,
  /** Bytes of a context; it is kept in the home until the build ends. */
  contextBytes: 8 * 1024 ** 3,
  /** Bytes of output of all steps that progress tells; what follows is kept for the error of a step that fails only. */
  toldBytes: 16 * 1024 * 1024,
  /** Last bytes of a step's output that its error has. */
  outputBytes: 16 * 1024,
  /** Results of steps that are kept for each tenant. */
  cachedSteps: 256,
  /** Seconds that a stage runs at most. */
  stageSeconds: 7200,
} as const;

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
  /**
   * Builds `name` from Debian packages or, with `dockerfile`, `dockerfileText` or `context`, by the steps of a Dockerfile:
   * `build_failed` for a step that fails, `invalid_argument` for a Dockerfile that makes no sense, `unsupported` for what boxes
   * are not built with. A build that fails or is cancelled leaves the image as it was.
   */
  build(name: string, options: BuildOptions | DockerfileBuildOptions): Promise<PullResult>;
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
  /** Removes images no box uses, and what is known of steps of builds; returns the references. */
  prune(options?: CallOptions): Promise<string[]>;
}
