/** Whose key of a request it is, and the key as the client chose it. */
export interface IdempotencyKey {
  readonly tenant: string;
  readonly key: string;
}

/** What is known of the request that a key was first used for. */
export interface KeptRequest {
  readonly fingerprint: string;
  /** What the request's boxes get their ids from, at every try. */
  readonly operationId: string;
  /** The answer as it was given to be kept, as JSON, or null while there is none. */
  readonly answer: string | null;
}
