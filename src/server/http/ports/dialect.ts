import type { IncomingMessage } from 'node:http';
import type { PortConnection } from '../../../api/index.js';
import type { CryoboxError } from '../../../errors.js';
import type { PortAccess } from './access.js';

/** A port of a box that a request is for, when that box is there. */
export interface PortTarget {
  readonly access: PortAccess;
  /** Brings the box up where traffic does that, and connects to the port. Called once the request was let in. */
  connect(signal: AbortSignal): Promise<PortConnection>;
  /** Something whose signal is raised when what is open to the box is to be cut off. Disposed of at the end. */
  watch(): { readonly signal: AbortSignal } & Disposable;
  /** Stands for the request's `Host`. @default the one it has */
  readonly host?: string | undefined;
  /** Whether the program in the box speaks TLS; its certificate is not looked at. @default false */
  readonly tls?: boolean;
}

/**
 * Why a request was not passed on: `missing`, the box is not there; `stopped`, it does not run, or was ended meanwhile;
 * `closed`, nothing listens on the port; `token_missing` and `token_wrong`, the port is private; `busy`, too many are under way to that box.
 */
export type PortRefusal =
  | 'missing'
  | 'stopped'
  | 'closed'
  | 'token_missing'
  | 'token_wrong'
  | 'busy'
  | CryoboxError;

/** How an API tells which requests are for ports of boxes, and what is answered where nothing serves them. */
export interface PortDialect<Address = unknown> {
  /** Names its requests in logs and metrics. */
  readonly operation: string;
  /** Where a request is for; undefined: none of this dialect. */
  addressOf(request: IncomingMessage): Address | undefined;
  /** What of a box limits count together. */
  keyOf(address: Address): string;
  /** The target of an address; undefined when nothing is there that traffic reaches. */
  find(address: Address): Promise<PortTarget | undefined>;
  /** The answer to a request that was not passed on. */
  refusal(
    address: Address,
    why: PortRefusal,
    request: IncomingMessage,
  ): { readonly status: number; readonly contentType: string; readonly body: string };
}
