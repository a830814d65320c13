import type { CallOptions } from './common.js';

/**
 * A secret that a box uses and never has: the box gets a placeholder, and requests to the hosts that are named get the
 * value in its place outside of the box, by HTTPS, or by plain HTTP where a host says so.
 */
export interface SecretOptions {
  /** What requests get: 1 to 8,192 printable ASCII characters. */
  readonly value: string;
  /**
   * Whom requests may be to, at most 8: `api.example.com`, `*.example.com`, with or without `:PORT`; without: 443. By HTTPS,
   * where `http://` does not stand before one: then by plain HTTP, without a port at 80.
   */
  readonly hosts: readonly string[];
  /** What stands for the value in the box: 8 to 256 printable ASCII characters without spaces. @default a random one */
  readonly placeholder?: string;
}

/** How a secret is set: one that is there keeps what is left out. */
export interface SecretChange extends CallOptions {
  /** What requests get from now on. */
  readonly value?: string;
  readonly hosts?: readonly string[];
  readonly placeholder?: string;
}

/** What is told of a secret: all but its value. */
export interface SecretInfo {
  /** Also the environment variable of new commands that holds the placeholder. */
  readonly name: string;
  readonly placeholder: string;
  readonly hosts: readonly string[];
  /** False where the value was lost, as in a home that was recovered from an object store: it has to be set again. */
  readonly hasValue: boolean;
}

/** The secrets of a box, while it runs and while it does not. */
export interface BoxSecrets {
  /** All of them, by their names. */
  list(options?: CallOptions): Promise<SecretInfo[]>;
  /**
   * Adds a secret, or changes one that is there: requests get the new value from then on, also in processes that have the
   * placeholder. Throws `invalid_argument`, `resource_exhausted` beyond 32, and `invalid_state` for a box that runs and was
   * started with neither secrets nor lists.
   */
  set(name: string, secret: SecretChange): Promise<SecretInfo>;
  /** Removes a secret: its placeholder is sent as it is from then on. Throws `not_found`. */
  remove(name: string, options?: CallOptions): Promise<void>;
}
