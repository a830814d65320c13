import {
  CryoboxError,
  catalogue,
  type ErrorCode,
  isCryoboxError,
  isErrorCode,
  messageOf,
} from '../errors.js';

/**
 * An error as the REST API sends it (v1 contract, section 1.3). `message`, `type` and `code` are what every v1 client
 * reads; `reason`, `hint` and `details` carry the rest of a {@link CryoboxError}, so that it can be rebuilt.
 */
export interface ErrorJson {
  readonly message: string;
  readonly type: string;
  readonly code: string;
  /** Our own code, finer than `code`. */
  readonly reason?: string;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly request_id?: string;
}

/** Body of every answer that is not 2xx. */
export interface ErrorEnvelope {
  readonly error: ErrorJson;
}

/** Any error as JSON; what is no {@link CryoboxError} becomes `internal` without its text, which may hold secrets. */
export function errorToJson(error: unknown, requestId?: string): ErrorJson {
  const known = isCryoboxError(error)
    ? error
    : new CryoboxError('internal', 'The server failed in a way it did not expect', { cause: error });
  const { type, wireCode } = catalogue[known.code];
  return {
    message: known.message,
    type,
    code: wireCode,
    reason: known.code,
    hint: known.hint,
    ...(Object.keys(known.details).length > 0 ? { details: known.details } : {}),
    ...(requestId === undefined ? {} : { request_id: requestId }),
  };
}

/** Our code for each v1 code that is not a code of ours too. */
const codeOfWireCode: Readonly<Record<string, ErrorCode>> = { invalid_request: 'invalid_argument' };

/** Our code for an HTTP status, for servers that send no envelope. */
const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_argument',
  401: 'unauthenticated',
  403: 'permission_denied',
  404: 'not_found',
  409: 'invalid_state',
  410: 'session_reaped',
  413: 'payload_too_large',
  422: 'invalid_argument',
  429: 'resource_exhausted',
  502: 'upstream_unavailable',
  503: 'upstream_unavailable',
  504: 'timeout',
};

function codeOf(json: Partial<ErrorJson>, status: number): ErrorCode {
  for (const candidate of [json.reason, json.code]) {
    if (typeof candidate !== 'string') continue;
    if (isErrorCode(candidate)) return candidate;
    const translated = codeOfWireCode[candidate];
    if (translated) return translated;
  }
  return codeOfStatus[status] ?? 'internal';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The error an {@link ErrorJson} stands for; `status` decides where it names no code of ours. */
export function errorFromJson(json: Partial<ErrorJson>, status: number): CryoboxError {
  return new CryoboxError(
    codeOf(json, status),
    String(json.message ?? `The server answered HTTP ${status}`),
    {
      ...(typeof json.hint === 'string' ? { hint: json.hint } : {}),
      ...(isRecord(json.details) ? { details: json.details } : {}),
    },
  );
}

/** The error an answer's body stands for: an envelope, a flat `{message, code}`, or any text (v1 contract, section 1.3). */
export function errorFromBody(body: string, status: number): CryoboxError {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch (error) {
    const text = body.slice(0, 500).trim();
    return new CryoboxError(
      codeOf({}, status),
      `The server answered HTTP ${status}${text ? `: ${text}` : ''}`,
      {
        cause: messageOf(error),
      },
    );
  }
  if (!isRecord(parsed)) return errorFromJson({}, status);
  return errorFromJson(isRecord(parsed['error']) ? parsed['error'] : parsed, status);
}
