import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { ZodType } from 'zod';
import type { Box, ByteSource, Progress, Runtime } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { Principal, Scope } from './auth.js';
import type { Parts } from './parts.js';

/** One request, checked and authorised. */
export interface Call<Params = unknown, Query = unknown, Body = unknown> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly headers: IncomingHttpHeaders;
  /** The connection it came on. */
  readonly socket: Socket;
  /** The raw body of a route with `body: 'bytes'`. */
  readonly upload: ByteSource;
  readonly principal: Principal;
  /** The `Authorization` header it was let in with, or what stands for it. */
  readonly authorization: string | undefined;
  /** What the principal sees. */
  readonly runtime: Runtime;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  readonly requestId: string;
  /** Of a request with an `Idempotency-Key`: makes what it makes the same at every try. */
  readonly operationId?: string;
  readonly parts: Parts;
}

/** Takes the progress of a long operation. */
export type OnProgress = (progress: Progress) => void;

/** What a route answers with. No `json`, `jsonText` and `bytes`: an empty body. */
export interface Answer {
  /** @default 200 with a body, 204 without */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  /** JSON that is text already. */
  readonly jsonText?: string;
  readonly bytes?: ByteSource;
  /** Of `bytes`. @default 'application/octet-stream' */
  readonly contentType?: string;
}

/** What a WebSocket route does once its request was accepted: it owns the socket. */
export type Upgrade = (socket: WebSocket) => Promise<void>;

/** What an API of others does differently; its routes are not in our OpenAPI. */
export interface ForeignDialect {
  /** The `Authorization` header that a request's headers amount to. @default the one it has */
  readonly authorization?: (headers: IncomingHttpHeaders) => string | undefined;
  /**
   * Lets requests in by something else than a key: what the path, the query and the headers say. Throws what refuses them.
   * @default by the key
   */
  readonly admit?: (request: {
    readonly params: unknown;
    readonly query: unknown;
    readonly headers: IncomingHttpHeaders;
  }) => Promise<Principal>;
  /** How an error is told. */
  readonly errorAnswer: (error: CryoboxError, requestId: string) => { status: number; body: unknown };
}

interface RouteFacts<Params, Query, Body> {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** Below `/v1` unless `root`, with `:name` for parameters. */
  readonly path: string;
  /** Unique; names the operation in OpenAPI, logs and metrics. */
  readonly operation: string;
  readonly summary: string;
  /** Null: every principal may. `public`: nobody is asked for a key. */
  readonly scope: Scope | null | 'public';
  readonly params?: ZodType<Params>;
  readonly query?: ZodType<Query>;
  /** Headers it knows, by name in lower case, and what they are for; a repeated request must have the same. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A schema, or `bytes` for a stream of any length. Absent: no body is read. */
  readonly body?: ZodType<Body> | 'bytes';
  /**
   * Status and schema of the answer, for OpenAPI. A text names a media type; an object has the schema of each media type.
   * `others`: by status, where there is more than one.
   */
  readonly answer: {
    readonly status: number;
    readonly body?: ZodType | string | Readonly<Record<string, ZodType>>;
    readonly others?: Readonly<Record<number, ZodType>>;
  };
  /** Headers of the answer with which a WebSocket begins. */
  readonly upgradeHeaders?: Readonly<Record<string, string>>;
  /** Whether the path stands outside `/v1`. */
  readonly root?: boolean;
  /** Whether the answer's JSON comes as lines, after those of its progress, when the client asks for them. */
  readonly progress?: boolean;
  /** Whether its requests keep nobody from closing the server: they change nothing, or end only with the server. */
  readonly passive?: boolean;
  /** Whether an `Idempotency-Key` is honoured. */
  readonly idempotent?: boolean;
  /** Whether it is left out of the rate limit: answering costs no more than refusing would. */
  readonly unlimited?: boolean;
  /** The template routes name a bad request differently (v1 contract, "What ours adds to v1"). */
  readonly dialect?: 'templates';
  /** Whether OpenAPI leaves it out: it is for our own pages. */
  readonly hidden?: boolean;
  /** Another API than v1, whose clients know other forms of the same. @default v1 */
  readonly foreign?: ForeignDialect;
}

/** One operation over HTTP. */
export interface Route<Params = unknown, Query = unknown, Body = unknown>
  extends RouteFacts<Params, Query, Body> {
  readonly handle?: (call: Call<Params, Query, Body>, onProgress?: OnProgress) => Promise<Answer>;
  /** Of a WebSocket route: runs before the upgrade, so that what it throws is an HTTP answer. */
  readonly upgrade?: (call: Call<Params, Query, Body>) => Promise<Upgrade>;
}

/** A route with the types its schemas give. */
export function route<Params, Query, Body>(definition: Route<Params, Query, Body>): Route {
  // The schemas of the route check what its handler gets, so the types may be forgotten here.
  return definition as unknown as Route;
}

/** A JSON answer. */
export function ok(json: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, json, headers };
}

/** An answer without a body. */
export const empty: Answer = { status: 204 };

/** The box of a request; `not_found` when there is none. */
export async function boxOf(call: Call<{ id: string }>): Promise<Box> {
  const box = await call.runtime.get(call.params.id, { signal: call.signal });
  if (!box) throw notFound('box', call.params.id);
  return box;
}

/** The error for something that does not exist. */
export function notFound(what: string, name: string): CryoboxError {
  return new CryoboxError('not_found', `There is no ${what} "${name}"`, { details: { [what]: name } });
}
