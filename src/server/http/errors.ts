import { ZodError } from 'zod';
import { CryoboxError, catalogue, isCryoboxError, messageOf, wrapHostError } from '../../errors.js';
import { type ErrorEnvelope, type ErrorJson, errorToJson } from '../../wire/error.js';

/** The path of a field as a caller would write it. */
function fieldOf(path: readonly PropertyKey[]): string {
  return path.map(String).join('.');
}

/** Messages of one answer; a body may have any number of mistakes. */
const maxIssues = 5;

type Issue = ZodError['issues'][number];

function describe(issue: Issue): { message: string; field: string } {
  const field = fieldOf(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const unknown = issue.keys.slice(0, maxIssues).map((key) => (field ? `${field}.${key}` : key));
    return {
      message: `Unknown field ${unknown.map((name) => `"${name}"`).join(', ')}`,
      field: unknown[0] ?? '',
    };
  }
  return { message: field ? `"${field}": ${issue.message}` : issue.message, field };
}

/** What a schema has against a value, as `invalid_argument` that names the field. */
export function invalidArgument(where: string, error: ZodError): CryoboxError {
  const issues = error.issues.slice(0, maxIssues).map(describe);
  const field = issues[0]?.field ?? '';
  return new CryoboxError('invalid_argument', `${where}: ${issues.map((each) => each.message).join('; ')}`, {
    details: { field },
  });
}

function httpStatusOf(error: unknown): number {
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  return typeof status === 'number' ? status : 500;
}

/** Anything thrown while a request was served, as an error of the catalogue. */
export function toCryoboxError(error: unknown): CryoboxError {
  if (isCryoboxError(error)) return error;
  if (error instanceof ZodError) return invalidArgument('request', error);
  const status = httpStatusOf(error);
  if (status === 413) {
    return new CryoboxError('payload_too_large', `The body is too large: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (status >= 400 && status < 500) {
    return new CryoboxError('invalid_argument', `Bad request: ${messageOf(error)}`, { cause: error });
  }
  // A full disk, and a host at its limits, say themselves what to do.
  const known = wrapHostError(error, 'The request failed', 'internal');
  if (known.code !== 'internal') return known;
  return new CryoboxError('internal', 'The server failed in a way it did not expect', { cause: error });
}

/** A name of a directory in texts for callers who have no business with its place. */
export interface HiddenDirectory {
  /** Absolute, without a slash at its end. */
  readonly path: string;
  /** Stands in its place. */
  readonly name: string;
}

/** Errors as a server tells them to its callers. */
export class ErrorWriter {
  readonly #hidden: readonly HiddenDirectory[];

  /** `hidden`: directories of the host whose paths, and those of what is in them, are not told. */
  constructor(hidden: readonly HiddenDirectory[] = []) {
    this.#hidden = hidden.toSorted((a, b) => b.path.length - a.path.length);
  }

  /** Any error as JSON, as {@link errorToJson}. */
  json(error: unknown, requestId?: string): ErrorJson {
    return this.shown(errorToJson(error, requestId));
  }

  /** Any JSON about an error, without the paths that are not told. */
  shown<T>(json: T): T {
    return this.#hidden.length === 0 ? json : (this.#without(json) as T);
  }

  /** Status and body of an error's answer. `dialect`: the template routes name a bad request differently. */
  answer(
    error: CryoboxError,
    requestId: string,
    dialect: 'v1' | 'templates' = 'v1',
  ): { status: number; body: ErrorEnvelope } {
    const json = this.json(error, requestId);
    const renamed = dialect === 'templates' && json.code === 'invalid_argument';
    return {
      status: catalogue[error.code].status,
      body: { error: renamed ? { ...json, code: 'invalid_request' } : json },
    };
  }

  #without(value: unknown): unknown {
    if (typeof value === 'string') {
      return this.#hidden.reduce((text, { path, name }) => text.replaceAll(path, name), value);
    }
    if (Array.isArray(value)) return value.map((part) => this.#without(part));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, this.#without(part)]));
  }
}
