/**
 * The one error catalogue. Every error that leaves Cryobox is a {@link CryoboxError} whose `code` is a key of
 * the catalogue; the server renders it and the remote runtime rebuilds it from the same table.
 */

/** Who can mend it: the caller (`user`) or the operator of the host (`system`). */
export type ErrorFault = 'user' | 'system';

interface CatalogueEntry {
  /** HTTP status of the REST API. */
  readonly status: number;
  /** `error.type` on the wire (v1 contract, section 1.3). */
  readonly type: string;
  /** `error.code` on the wire: one of the codes of v1, which has fewer than we do. */
  readonly wireCode: string;
  readonly fault: ErrorFault;
  /** What to do next, when the place that throws knows nothing better. */
  readonly hint: string;
}

const entry = (
  status: number,
  type: string,
  wireCode: string,
  fault: ErrorFault,
  hint: string,
): CatalogueEntry => ({ status, type, wireCode, fault, hint });

/** Every error code, with its HTTP status, its v1 type and code, whose fault it is and the default next step. */
export const catalogue = {
  // What the caller asked for cannot be.
  invalid_argument: entry(
    400,
    'InvalidArgumentError',
    'invalid_argument',
    'user',
    'Correct the argument named in the message.',
  ),
  unsupported: entry(400, 'UnsupportedError', 'unsupported', 'user', 'Leave the option out.'),
  unauthenticated: entry(
    401,
    'AuthError',
    'unauthenticated',
    'user',
    'Send a valid API key as a bearer token.',
  ),
  permission_denied: entry(
    403,
    'AuthError',
    'permission_denied',
    'user',
    'Use a key with the scope named in the message.',
  ),
  not_found: entry(
    404,
    'NotFoundError',
    'not_found',
    'user',
    'Check the name or id; list shows what exists.',
  ),
  already_exists: entry(
    409,
    'AlreadyExistsError',
    'already_exists',
    'user',
    'Choose another name, or remove the old one first.',
  ),
  invalid_state: entry(
    409,
    'InvalidStateError',
    'invalid_state',
    'user',
    'Bring the box into the state named in the message first.',
  ),
  conflict: entry(
    409,
    'ConflictError',
    'conflict',
    'user',
    'Wait for the other operation to end and try again.',
  ),
  stopped: entry(409, 'StoppedError', 'stopped', 'user', 'Start the box first.'),
  session_reaped: entry(
    410,
    'SessionReapedError',
    'session_reaped',
    'user',
    'Start a new execution; ended ones are kept for five minutes.',
  ),
  position_gone: entry(
    410,
    'PositionGoneError',
    'position_gone',
    'user',
    'List what there is now, then follow the events from now on.',
  ),
  payload_too_large: entry(
    413,
    'PayloadTooLargeError',
    'payload_too_large',
    'user',
    'Send less, or in parts.',
  ),
  resource_exhausted: entry(
    429,
    'ResourceExhaustedError',
    'resource_exhausted',
    'user',
    'Remove what is no longer used, or raise the limit named in the message.',
  ),
  cancelled: entry(499, 'CancelledError', 'timeout', 'user', 'The call was cancelled by its signal.'),

  // Executions.
  command_not_found: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'Check the command and the PATH of the box.',
  ),
  command_not_executable: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'Make the file executable, or run it through its interpreter.',
  ),
  cwd_not_found: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'Create the directory, or leave cwd out.',
  ),
  build_failed: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'Mend the step named in the message; what it wrote stands in `details.output`.',
  ),
  output_lost: entry(
    500,
    'ExecutionError',
    'execution_failed',
    'system',
    'Run the command again with its output in a file of the box, and copy that out.',
  ),
  user_not_found: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'Use a user of the image, or a numeric uid:gid.',
  ),
  execution_failed: entry(
    422,
    'ExecutionError',
    'execution_failed',
    'user',
    'See the message for what the guest reported.',
  ),

  // Images and archives.
  image_not_found: entry(
    404,
    'NotFoundError',
    'not_found',
    'user',
    'Pull, import or build the image first; `cryobox images ls` shows what is there.',
  ),
  image_invalid: entry(
    422,
    'ImageError',
    'image_pull_failed',
    'user',
    'The image is damaged or not an OCI image; get it again.',
  ),
  image_refused: entry(
    422,
    'ImageError',
    'image_pull_failed',
    'user',
    'The image holds something Cryobox does not unpack; see the message.',
  ),
  image_pull_failed: entry(
    422,
    'ImageError',
    'image_pull_failed',
    'system',
    'Check the registry and try again; finished blobs are kept.',
  ),
  archive_invalid: entry(
    400,
    'InvalidArgumentError',
    'invalid_argument',
    'user',
    'The archive is damaged or not a Cryobox archive; export it again.',
  ),

  // The host and its parts.
  disk_full: entry(
    500,
    'StorageError',
    'storage_error',
    'system',
    'Free space in the home, or run `cryobox gc`.',
  ),
  integrity: entry(
    500,
    'StorageError',
    'storage_error',
    'system',
    'Run `cryobox verify`; restore the layer from a copy or remove what uses it.',
  ),
  storage_error: entry(
    500,
    'StorageError',
    'storage_error',
    'system',
    'Check the file system that holds the home.',
  ),
  disk_image_invalid: entry(
    500,
    'StorageError',
    'storage_error',
    'user',
    'The disk image is damaged or uses a feature that is refused; see the message.',
  ),
  database_error: entry(
    500,
    'DatabaseError',
    'database_error',
    'system',
    'Run `cryobox doctor`; a backup lies beside the database.',
  ),
  config_error: entry(
    500,
    'ConfigError',
    'config_error',
    'system',
    'Run `cryobox doctor`: it says what is missing and how to get it.',
  ),
  home_in_use: entry(
    409,
    'ConflictError',
    'conflict',
    'user',
    'Connect to the engine that owns the home, end it with `cryobox engine stop`, or choose another CRYOBOX_HOME.',
  ),
  machine_failed: entry(
    503,
    'EngineError',
    'engine_unavailable',
    'system',
    'See the console lines in the message; start the box again.',
  ),
  agent_mismatch: entry(
    503,
    'EngineError',
    'engine_unavailable',
    'system',
    'Stop and start the box so that it runs the current agent.',
  ),
  identity_unconfirmed: entry(
    503,
    'EngineError',
    'engine_unavailable',
    'system',
    'The machine was stopped because its clock and randomness could not be renewed; try again.',
  ),
  engine_unavailable: entry(
    503,
    'EngineError',
    'engine_unavailable',
    'system',
    'Start the engine, or wait until it has recovered.',
  ),
  network_unavailable: entry(
    503,
    'NetworkError',
    'network_unavailable',
    'system',
    'Check the address and that the server is up.',
  ),
  upstream_unavailable: entry(
    503,
    'UpstreamUnavailableError',
    'upstream_unavailable',
    'system',
    'Try again; the part behind the server did not answer.',
  ),
  timeout: entry(
    504,
    'TimeoutError',
    'timeout',
    'system',
    'Raise the time limit named in the message, or try again.',
  ),
  internal: entry(
    500,
    'InternalError',
    'internal',
    'system',
    'This is a bug in Cryobox; please report it with the message.',
  ),
} as const satisfies Record<string, CatalogueEntry>;

/** The `code` of a {@link CryoboxError}: a key of the catalogue. */
export type ErrorCode = keyof typeof catalogue;

/** What may be given beside code and message. */
export interface ErrorDetails {
  /** The error underneath. */
  readonly cause?: unknown;
  /** What to do next; the catalogue's hint when absent. */
  readonly hint?: string;
  /** Facts for programs, such as `{ path, limitBytes }`. Never secrets. JSON values only. */
  readonly details?: Readonly<Record<string, unknown>>;
}

const brand = Symbol.for('cryobox.error');

/**
 * The one error class. `message` says what failed, what was expected and what was got; `hint` says what to do.
 * Match on `code`; use {@link isCryoboxError} when two copies of the package may be loaded.
 */
export class CryoboxError extends Error {
  override readonly name = 'CryoboxError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly [brand] = true;

  constructor(code: ErrorCode, message: string, more: ErrorDetails = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.hint = more.hint ?? catalogue[code].hint;
    this.details = more.details ?? {};
  }

  /** HTTP status of this error in the REST API. */
  get status(): number {
    return catalogue[this.code].status;
  }

  /** Whether the caller or the operator can mend it. */
  get fault(): ErrorFault {
    return catalogue[this.code].fault;
  }
}

/** Whether a value is a {@link CryoboxError}, also one thrown by another copy of this package. With a code: that code. */
export function isCryoboxError(value: unknown, code?: ErrorCode): value is CryoboxError {
  const ours = typeof value === 'object' && value !== null && brand in value;
  return ours && (code === undefined || (value as CryoboxError).code === code);
}

/** Whether a string is a code of the catalogue. */
export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(catalogue, value);
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Node's error code (`ENOENT`, ...) of anything thrown, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

/** Limits of the host that an operation may meet: what is at an end, and where it is raised. */
const hostLimits: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  EAGAIN: [
    'no process can be started: the limit of processes is reached',
    'End what is no longer used, or raise the limit: `ulimit -u`, TasksMax of the service, pids.max of the cgroup.',
  ],
  EMFILE: [
    'this process may open no more files',
    'Use less at once, or raise the limit: `ulimit -n`, LimitNOFILE of the service.',
  ],
  ENFILE: ['the host may open no more files', 'Raise the sysctl fs.file-max of the host.'],
  ENOMEM: ['the host has no memory left', 'Stop or pause what is not needed, or give the host more memory.'],
};

/** What is known of the rest by the host's code alone, whatever was under way. */
function codeOfErrno(errno: string | undefined): ErrorCode | undefined {
  // A path of the caller's that no file can have, such as one with a NUL.
  if (errno === 'ERR_INVALID_ARG_VALUE') return 'invalid_argument';
  // A disk that fails, or that was mounted anew because it did.
  if (errno === 'EIO' || errno === 'EROFS') return 'storage_error';
  return errno?.startsWith('SQLITE_') ? 'database_error' : undefined;
}

/**
 * Wraps a failure of the host as a typed error: `ENOSPC`, `EDQUOT` and `SQLITE_FULL` become `disk_full`, `EAGAIN`, `EMFILE`,
 * `ENFILE` and `ENOMEM` become `resource_exhausted`, `EIO` and `EROFS` `storage_error`, other codes of SQLite
 * `database_error`; a {@link CryoboxError} passes through unchanged, everything else becomes `fallback`.
 */
export function wrapHostError(
  error: unknown,
  what: string,
  fallback: ErrorCode = 'storage_error',
): CryoboxError {
  if (isCryoboxError(error)) return error;
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'SQLITE_FULL') {
    return new CryoboxError('disk_full', `${what}: the disk is full`, { cause: error });
  }
  const limit = hostLimits[errno ?? ''];
  if (limit) {
    return new CryoboxError('resource_exhausted', `${what}: ${limit[0]} (${errno})`, {
      cause: error,
      hint: limit[1],
      details: { errno },
    });
  }
  return new CryoboxError(codeOfErrno(errno) ?? fallback, `${what}: ${messageOf(error)}`, { cause: error });
}
