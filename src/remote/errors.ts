import { CryoboxError, type ErrorCode, errnoOf, isCryoboxError, messageOf } from '../errors.js';

/** What a failed connection means, by Node's and undici's codes. */
const codeOfFailure: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'network_unavailable',
  ENOENT: 'network_unavailable',
  ENOTDIR: 'network_unavailable',
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
/** Nobody listens there, so that nothing was sent. */
const unreached = new Set(['ECONNREFUSED', 'ENOENT', 'ENOTDIR']);

/** Whether a request broke on its connection, rather than being answered. */
export function isBrokenConnection(error: unknown): boolean {
  return (
    broken.has(errnoOf(error) ?? '') || (isCryoboxError(error) && broken.has(errnoOf(error.cause) ?? ''))
  );
}

/** Whether a request was certainly not begun: nobody listened, or the server was closing and said so. */
export function isUnsent(error: unknown): boolean {
  if (!isCryoboxError(error)) return unreached.has(errnoOf(error) ?? '');
  if (error.code === 'network_unavailable') return unreached.has(errnoOf(error.cause) ?? '');
  return error.code === 'engine_unavailable' && error.details['begun'] === false;
}

/** The typed error for a request that got no answer. */
export function connectionError(error: unknown, where: string, signal?: AbortSignal): CryoboxError {
  if (signal?.aborted) return new CryoboxError('cancelled', 'The call was cancelled', { cause: error });
  if (isCryoboxError(error)) return error;
  const errno = errnoOf(error) ?? '';
  const code = codeOfFailure[errno] ?? 'upstream_unavailable';
  if (errno === 'EACCES') {
    return new CryoboxError(code, `this user may not use ${where}`, {
      cause: error,
      hint: 'Run as the user whose engine it is, or set CRYOBOX_HOME to a directory of your own.',
    });
  }
  return new CryoboxError(code, `${where}: ${messageOf(error)}`, { cause: error });
}
