import { ZodError } from 'zod';
import { CryoboxError, catalogue, isCryoboxError, messageOf } from '../errors.js';
import { type ErrorEnvelope, errorToJson } from '../wire/error.js';

/** The path of a field as a caller would write it. */
function fieldOf(path: readonly PropertyKey[]): string {
  return path.map(String).join('.');
}

type Issue = ZodError['issues'][number];

function describe(issue: Issue): { message: string; field: string } {
  const field = fieldOf(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const unknown = issue.keys.map((key) => (field ? `${field}.${key}` : key));
    return {
      message: `Unknown field ${unknown.map((name) => `"${name}"`).join(', ')}`,
      field: unknown[0] ?? '',
    };
  }
  return { message: field ? `"${field}": ${issue.message}` : issue.message, field };
}

/** Messages of one answer; a body may have any number of mistakes. */
const maxIssues = 5;

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
  return new CryoboxError('internal', 'The server failed in a way it did not expect', { cause: error });
}

/** Status and body of an error's answer. `dialect`: the template routes name a bad request differently. */
export function errorAnswer(
  error: CryoboxError,
  requestId: string,
  dialect: 'v1' | 'templates' = 'v1',
): { status: number; body: ErrorEnvelope } {
  const json = errorToJson(error, requestId);
  const renamed = dialect === 'templates' && json.code === 'invalid_argument';
  return {
    status: catalogue[error.code].status,
    body: { error: renamed ? { ...json, code: 'invalid_request' } : json },
  };
}
