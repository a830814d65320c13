import { createHash } from 'node:crypto';
import { z } from 'zod';
import { isSecret } from '../../../base/secret.js';
import { CryoboxError } from '../../../errors.js';

/** What the URL of a file says; a signature stands in it for the sandbox's token. */
export const fileQuery = z.looseObject({
  path: z.string().optional(),
  username: z.string().optional(),
  signature: z.string().optional(),
  /** Until when it holds, in seconds since 1970. */
  signature_expiration: z.string().optional(),
});

/** {@link fileQuery} as it is read. */
export type FileQuery = z.infer<typeof fileQuery>;

/** What a signature allows: one of them, for one path and user. */
export type FileOperation = 'read' | 'write';

/** The signature that clients make with the token of a sandbox (`getSignature` of E2B's clients). */
function signatureOf(token: string, operation: FileOperation, query: FileQuery): string {
  const { path = '', username = '', signature_expiration: until } = query;
  const text = [path, operation, username, token, ...(until === undefined ? [] : [until])].join(':');
  return `v1_${createHash('sha256').update(text).digest('base64').replace(/=+$/, '')}`;
}

/** Whether a URL is signed with a token. */
export function isSignedWith(token: string, operation: FileOperation, query: FileQuery): boolean {
  return isSecret(signatureOf(token, operation, query), query.signature ?? '');
}

/** Throws `unauthenticated` unless a URL is signed with a token, and its time is not over. */
export function checkSignature(token: string, operation: FileOperation, query: FileQuery): void {
  if (query.signature === undefined) throw refused('missing signature query parameter');
  if (!isSignedWith(token, operation, query)) throw refused('invalid signature');
  const { signature_expiration: until } = query;
  // What is no number is over.
  if (until !== undefined && !(Number(until) * 1000 >= Date.now())) {
    throw refused('signature is already expired');
  }
}

function refused(why: string): CryoboxError {
  return new CryoboxError('unauthenticated', why, {
    hint: 'Ask the client for a new URL, or send the access token of the sandbox.',
  });
}
