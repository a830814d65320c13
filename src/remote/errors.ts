import { CryoboxError, type ErrorCode, errnoOf, isCryoboxError, messageOf } from '../errors.js';

/** What a failed connection means, by Node's and undici's codes. */
const codeOfFailure: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'network_unavailable',
  ENOENT: 'network_unavailable',
  ENOTFOUND: 'network_unavailable',
  EAI_AGAIN: 'network_unavailable',
  EHOSTUNREACH: 'network_unavailable',
  ENETUNREACH: 'network_unavailable',
  ETIMEDOUT: 'network_unavailable',
  EACCES: 'permission_denied',
  UND_ERR_CONNECT_TIMEOUT: 'network_unavailable',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
};

/** Connections that broke after they were made: the same request may be sent again if it is safe to. */
const broken = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'UND_ERR_CLOSED']);

/** Whether a request broke on its connection, rather than being answered. */
export function isBrokenConnection(error: unknown): boolean {
  return broken.has(errnoOf(error) ?? '');
}

/** The typed error for a request that got no answer. */
export function connectionError(error: unknown, where: string, signal?: AbortSignal): CryoboxError {
  if (signal?.aborted) return new CryoboxError('cancelled', 'The call was cancelled', { cause: error });
  if (isCryoboxError(error)) return error;
  const code = codeOfFailure[errnoOf(error) ?? ''] ?? 'upstream_unavailable';
  return new CryoboxError(code, `${where}: ${messageOf(error)}`, { cause: error });
}
