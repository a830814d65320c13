/** Requests to the REST API (docs/api.md). */
import { ApiError, errorFrom, errorOf } from './errors.ts';
import { csrfToken } from './session.ts';

/** How a request is made. */
export interface AskOptions {
  readonly method?: string;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as bytes. */
  readonly bytes?: Blob;
  readonly signal?: AbortSignal;
  readonly accept?: string;
}

/** Heard when the server lets this browser in no more. */
export const signedOut = new EventTarget();

/** An answer that is no error. Throws {@link ApiError}, and `TypeError` while nobody answers. */
export async function ask(path: string, options: AskOptions = {}): Promise<Response> {
  const headers = new Headers({ 'x-cryobox-csrf': csrfToken() });
  if (options.accept !== undefined) headers.set('accept', options.accept);
  if (options.json !== undefined) headers.set('content-type', 'application/json');
  if (options.bytes) headers.set('content-type', 'application/octet-stream');
  const answer = await fetch(`../v1${path}`, {
    method: options.method ?? 'GET',
    headers,
    cache: 'no-store',
    signal: options.signal ?? null,
    body: options.json === undefined ? (options.bytes ?? null) : JSON.stringify(options.json),
  });
  if (answer.status === 401) signedOut.dispatchEvent(new Event('signed-out'));
  if (!answer.ok) throw await errorOf(answer);
  return answer;
}

/** The JSON of an answer. */
export async function askJson<T>(path: string, options: AskOptions = {}): Promise<T> {
  return (await (await ask(path, options)).json()) as T;
}

/** A POST whose answer is JSON, or nothing. */
export async function post<T = unknown>(path: string, json: unknown = {}, signal?: AbortSignal): Promise<T> {
  const answer = await ask(path, { method: 'POST', json, ...(signal ? { signal } : {}) });
  const text = await answer.text();
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** Progress of something long. */
export interface ProgressLine {
  readonly stage: string;
  readonly done_bytes?: number;
  readonly total_bytes?: number;
  readonly item?: string;
}

/** A POST that tells its progress until it ends. */
export async function postWithProgress<T>(
  path: string,
  json: unknown,
  onProgress: (line: ProgressLine) => void,
  signal: AbortSignal,
): Promise<T> {
  const answer = await ask(path, { method: 'POST', json, signal, accept: 'application/x-ndjson' });
  for await (const line of jsonLines(answer)) {
    const { type, ...rest } = line as { type: string; result?: T };
    if (type === 'progress') onProgress(rest as unknown as ProgressLine);
    if (type === 'error') throw errorFrom(line, 500);
    if (type === 'result') return rest.result as T;
  }
  throw new ApiError(502, {
    message: 'The server ended its answer early',
    hint: 'Look whether it is there, and try again.',
  });
}

/** Lines of JSON as they come; empty ones are left out. */
export async function* jsonLines(answer: Response): AsyncGenerator<unknown> {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const lines = (rest + next.value).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.trim() !== '') yield JSON.parse(line);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Path of a box, or of something below it. */
export function boxPath(id: string, rest = ''): string {
  return `/boxes/${encodeURIComponent(id)}${rest}`;
}

/** A WebSocket to a route of the API. Browsers send no headers with it: the token is a protocol that is offered. */
export function openSocket(path: string): WebSocket {
  const url = new URL(`../v1${path}`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  const token = csrfToken();
  const socket = new WebSocket(url, token === '' ? [] : [`cryobox.csrf.${token}`]);
  socket.binaryType = 'arraybuffer';
  return socket;
}
