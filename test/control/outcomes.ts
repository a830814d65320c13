import { errnoOf, isCryoboxError, messageOf } from '../../src/errors.js';

/** What goes on beside an operation, and so decides how it may fail. */
export interface Circumstances {
  /** Others change the same boxes, images, templates and volumes. */
  readonly others?: boolean;
  /** Machines and page servers are killed. */
  readonly machinesDie?: boolean;
  /** The engine is killed, and started again. */
  readonly engineDies?: boolean;
}

/** Codes that say: it cannot be done with what is there now. */
const whileOthersWork = ['not_found', 'already_exists', 'invalid_state', 'conflict', 'stopped'] as const;
/** Codes of what is lost with a machine. */
const withMachines = ['machine_failed', 'output_lost', 'session_reaped'] as const;
/** Codes of what is lost with an engine. */
const withEngine = ['engine_unavailable', 'network_unavailable', 'upstream_unavailable'] as const;

/** Beside the codes above, what single operations may fail with while others work. */
const more: Readonly<Record<string, readonly string[]>> = {
  // A file may be gone, or its box be at another moment.
  'files.read': ['execution_failed'],
  'files.rename': ['execution_failed'],
  'files.remove': ['execution_failed'],
  files: ['execution_failed'],
  // Nobody listens at the port.
  dial: ['network_unavailable'],
  create: ['image_not_found'],
};

/** The codes with which an operation may fail. Every other one is a fault of ours. */
export function allowedCodes(operation: string, circumstances: Circumstances): ReadonlySet<string> {
  const { others, machinesDie, engineDies } = circumstances;
  return new Set<string>([
    ...(others ? [...whileOthersWork, ...(more[operation.replace(/^rest /, '')] ?? [])] : []),
    ...(machinesDie ? withMachines : []),
    ...(engineDies ? withEngine : []),
  ]);
}

/** Why a failure is not one that may be; undefined where it may. */
export function objection(
  operation: string,
  error: unknown,
  circumstances: Circumstances,
): string | undefined {
  if (!isCryoboxError(error)) return `${operation} threw what is no CryoboxError: ${textOf(error)}`;
  if (error.hint === '') return `${operation} failed with ${error.code} and without a hint`;
  if (allowedCodes(operation, circumstances).has(error.code)) return undefined;
  return `${operation} failed with ${error.code}: ${error.message}${causesOf(error)}`;
}

function textOf(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  return `${errnoOf(error) ?? ''} ${messageOf(error)} ${stack}`.trim();
}

function causesOf(error: Error): string {
  const causes: string[] = [];
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) causes.push(cause.message);
  return causes.length === 0 ? '' : ` (${causes.join('; ')})`;
}
