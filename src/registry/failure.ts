import { showName } from '../base/tar/names.js';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../errors.js';

/** A request that failed: the error for the caller, and whether asking again can help. */
export class RegistryFailure extends Error {
  readonly error: CryoboxError;
  readonly isTransient: boolean;
  /** How long the registry asks to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(error: CryoboxError, isTransient: boolean, retryAfterMs?: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.isTransient = isTransient;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What a registry said instead of an answer. */
export interface Refusal {
  readonly status: number;
  /** The message in the answer's body, when it has one (OCI distribution spec, "Error Codes"). */
  readonly message: string | undefined;
  readonly retryAfterMs: number | undefined;
}

const transientStatuses = new Set([408, 429, 500, 502, 503, 504]);
/** TLS told us something, so a second attempt gets the same answer (Node, tls, and OpenSSL's verification codes). */
const certificatePattern =
  /^(?:ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;

/** The failure a status stands for. `what` is what was asked for, `registry` who was asked. */
export function failureOfStatus(refusal: Refusal, what: string, registry: string): RegistryFailure {
  const { status, retryAfterMs } = refusal;
  const detail = refusal.message === undefined ? '' : `: ${showName(refusal.message)}`;
  const answer = `${registry} answered ${status} to ${what}${detail}`;
  const error = errorOfStatus(status, answer, registry);
  return new RegistryFailure(error, transientStatuses.has(status), retryAfterMs);
}

function errorOfStatus(status: number, answer: string, registry: string): CryoboxError {
  const details = { registry, status };
  if (status === 401) {
    return new CryoboxError('unauthenticated', answer, {
      details,
      hint: `Log in to ${registry} (docker login, or give credentials); some registries also answer so when the image does not exist.`,
    });
  }
  if (status === 403) {
    return new CryoboxError('permission_denied', answer, {
      details,
      hint: `Use credentials that may read the image at ${registry}.`,
    });
  }
  if (status === 404) {
    return new CryoboxError('image_not_found', answer, {
      details,
      hint: 'Check registry, repository and tag of the reference.',
    });
  }
  if (status === 429) {
    return new CryoboxError('resource_exhausted', answer, {
      details,
      hint: 'Wait, or log in: registries give more to known users.',
    });
  }
  if (status >= 500)
    return new CryoboxError('upstream_unavailable', answer, {
      details,
      hint: 'The registry has a problem; try again later.',
    });
  return new CryoboxError('image_pull_failed', answer, { details });
}

/** The failure of a connection. */
export function failureOfConnection(error: unknown, what: string, registry: string): RegistryFailure {
  if (error instanceof RegistryFailure) return error;
  if (isCryoboxError(error)) return new RegistryFailure(error, false);
  const errno = errnoOf(error) ?? errnoOf(error instanceof Error ? error.cause : undefined) ?? '';
  const details = { registry, errno };
  if (errno === 'ENOTFOUND') {
    const text = `the registry ${registry} does not exist: its name cannot be resolved`;
    return new RegistryFailure(
      new CryoboxError('network_unavailable', text, { cause: error, details }),
      false,
    );
  }
  if (certificatePattern.test(errno)) {
    const text = `no secure connection to the registry ${registry}: ${messageOf(error)}`;
    const hint =
      'Give the file of its certificate authority, or allow plain HTTP or an unverified certificate for this registry.';
    return new RegistryFailure(
      new CryoboxError('network_unavailable', text, { cause: error, details, hint }),
      false,
    );
  }
  const text = `the connection to ${registry} failed at ${what}: ${messageOf(error) || errno}`;
  return new RegistryFailure(new CryoboxError('network_unavailable', text, { cause: error, details }), true);
}
