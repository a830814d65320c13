import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { CryoboxError } from '../errors.js';

/** How a server is reached. Exactly one of `url` and `socketPath`. */
export interface RemoteOptions {
  /** Such as `https://boxes.example.com`; a path is kept before `/v1`. */
  readonly url?: string;
  /** The unix socket of an engine. */
  readonly socketPath?: string;
  readonly apiKey?: string;
  /** Path prefix of the tenant. @default none */
  readonly prefix?: string;
}

/** Longest path of a unix socket (unix(7), `sun_path`). */
const maxSocketPathBytes = 107;

/** Where requests go. */
export interface Address {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Before `/v1`, without a final slash. */
  readonly basePath: string;
  readonly socketPath: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Between `/v1` and the resources of a tenant: `/prefix` or nothing. */
  readonly prefix: string;
  /** What errors call it. */
  readonly name: string;
  release(): void;
}

function urlOf(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    url = undefined;
  }
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new CryoboxError('invalid_argument', `"${text}" is no http or https URL`);
}

/** A path short enough for the kernel: a long one goes through a descriptor of its directory, kept open meanwhile. */
function shortSocketPath(path: string): { path: string; release: () => void } {
  if (Buffer.byteLength(path) <= maxSocketPathBytes) return { path, release: () => undefined };
  const descriptor = openSync(dirname(path), 'r');
  return {
    path: `/proc/self/fd/${descriptor}/${basename(path)}`,
    release: () => closeSync(descriptor),
  };
}

/** The address of the options; `invalid_argument` when they name none or two. */
export function addressOf(options: RemoteOptions): Address {
  if ((options.url === undefined) === (options.socketPath === undefined)) {
    throw new CryoboxError('invalid_argument', 'Exactly one of url and socketPath is needed');
  }
  const headers: Record<string, string> = options.apiKey ? { authorization: `Bearer ${options.apiKey}` } : {};
  const prefix = options.prefix ? `/${options.prefix.replace(/^\/+|\/+$/g, '')}` : '';
  if (options.socketPath !== undefined) {
    const { path, release } = shortSocketPath(options.socketPath);
    return {
      origin: 'http://localhost',
      basePath: '',
      socketPath: path,
      headers,
      prefix,
      name: options.socketPath,
      release,
    };
  }
  const url = urlOf(options.url ?? '');
  return {
    origin: url.origin,
    basePath: url.pathname.replace(/\/+$/, ''),
    socketPath: undefined,
    headers,
    prefix,
    name: url.origin,
    release: () => undefined,
  };
}
