import type { IncomingMessage } from 'node:http';

/** The port of a sandbox at which clients find commands and files. */
export const envdPort = 49983;

/** Where a request for a sandbox goes. */
export interface SandboxAddress {
  /** As it was sent; it may be none. */
  readonly sandbox: string;
  readonly port: number;
}

const portOf = (text: string): number | undefined => {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
};

/**
 * The sandbox a request is for: named by a host name `PORT-SANDBOX.` of any domain, else by its headers, whatever its path.
 * A page at a name of its own so reaches no other sandbox by its headers. Undefined for all others.
 */
export function addressOf({ headers }: IncomingMessage): SandboxAddress | undefined {
  const [, digits = '', sandbox] =
    /^(\d{1,5})-(i[0-9a-z]{26})(?:-[0-9a-z]+)?\./i.exec(headers.host ?? '') ?? [];
  const ofHost = portOf(digits);
  if (ofHost !== undefined && sandbox !== undefined) return { sandbox: sandbox.toLowerCase(), port: ofHost };
  const named = headers['e2b-sandbox-id'];
  if (typeof named !== 'string') return undefined;
  const port = portOf(String(headers['e2b-sandbox-port'] ?? envdPort));
  return port === undefined ? undefined : { sandbox: named, port };
}

/** The path at which a request for the inside of a sandbox is routed; undefined for what is not for one. */
export function rewrittenUrl(request: IncomingMessage): string | undefined {
  const address = addressOf(request);
  if (address?.port !== envdPort) return undefined;
  const url = request.url ?? '/';
  return `/e2b/envd/${encodeURIComponent(address.sandbox)}${url.startsWith('/') ? url : '/'}`;
}
