/** An answer of the server that is an error, with what to do about it. */
export class ApiError extends Error {
  readonly status: number;
  /** Our own code, such as `invalid_state`. */
  readonly code: string;
  readonly hint: string | undefined;

  constructor(status: number, facts: { message?: string; reason?: string; code?: string; hint?: string }) {
    super(facts.message ?? `The server answered with ${status}`);
    this.status = status;
    this.code = facts.reason ?? facts.code ?? 'unknown';
    this.hint = facts.hint;
  }
}

/** The error in an answer. */
export async function errorOf(answer: Response): Promise<ApiError> {
  const body: unknown = await answer.json().catch(() => undefined);
  return errorFrom(body, answer.status);
}

/** The error in the JSON of an answer, a line or a message. */
export function errorFrom(body: unknown, status: number): ApiError {
  const { error } = (body ?? {}) as { error?: object };
  return new ApiError(status, error ?? {});
}

/** What to show of anything that was thrown. */
export function shownError(error: unknown): { message: string; hint: string | undefined } {
  if (error instanceof ApiError) return error;
  if (error instanceof TypeError) {
    return { message: 'The server does not answer', hint: 'The page goes on by itself once it does.' };
  }
  return { message: error instanceof Error ? error.message : String(error), hint: undefined };
}
