import { Code, ConnectError } from '@connectrpc/connect';
import { type CryoboxError, type ErrorCode, isCryoboxError, messageOf } from '../../../errors.js';

/** Names and HTTP statuses of Connect's codes (Connect protocol, "Error Codes"). */
const names: Readonly<Partial<Record<Code, readonly [name: string, status: number]>>> = {
  [Code.Canceled]: ['canceled', 499],
  [Code.InvalidArgument]: ['invalid_argument', 400],
  [Code.DeadlineExceeded]: ['deadline_exceeded', 504],
  [Code.NotFound]: ['not_found', 404],
  [Code.AlreadyExists]: ['already_exists', 409],
  [Code.PermissionDenied]: ['permission_denied', 403],
  [Code.ResourceExhausted]: ['resource_exhausted', 429],
  [Code.FailedPrecondition]: ['failed_precondition', 400],
  [Code.Unimplemented]: ['unimplemented', 501],
  [Code.Internal]: ['internal', 500],
  [Code.Unavailable]: ['unavailable', 503],
  [Code.Unauthenticated]: ['unauthenticated', 401],
};

const codes: Readonly<Partial<Record<ErrorCode, Code>>> = {
  invalid_argument: Code.InvalidArgument,
  unsupported: Code.InvalidArgument,
  unauthenticated: Code.Unauthenticated,
  user_not_found: Code.Unauthenticated,
  permission_denied: Code.PermissionDenied,
  not_found: Code.NotFound,
  session_reaped: Code.NotFound,
  already_exists: Code.AlreadyExists,
  invalid_state: Code.FailedPrecondition,
  conflict: Code.FailedPrecondition,
  stopped: Code.Unavailable,
  payload_too_large: Code.ResourceExhausted,
  resource_exhausted: Code.ResourceExhausted,
  disk_full: Code.ResourceExhausted,
  cancelled: Code.Canceled,
  command_not_found: Code.InvalidArgument,
  command_not_executable: Code.InvalidArgument,
  cwd_not_found: Code.InvalidArgument,
  execution_failed: Code.InvalidArgument,
  engine_unavailable: Code.Unavailable,
  machine_failed: Code.Unavailable,
  timeout: Code.Unavailable,
};

const codeOf = (error: CryoboxError): Code => codes[error.code] ?? Code.Internal;

/** Name and HTTP status of the Connect error an error is told as. */
export function connectCodeOf(error: CryoboxError): { readonly code: string; readonly status: number } {
  const [code, status] = names[codeOf(error)] ?? ['internal', 500];
  return { code, status };
}

/** Anything thrown while a call was served, as an error of Connect. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isCryoboxError(error))
    return new ConnectError(error.message, codeOf(error), undefined, undefined, error);
  return new ConnectError(messageOf(error), Code.Internal, undefined, undefined, error);
}
