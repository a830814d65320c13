/** The session of this browser: its cookie is the browser's to keep, its token ours. */
import { ApiError, errorOf } from './errors.ts';

/** Whether the page may ask for boxes now. */
export type SessionState = 'open' | 'signed-in' | 'signed-out';

const tokenKey = 'cryobox.csrf';

/** What requests with the cookie have to name; other pages of this browser share it, other sites cannot read it. */
export function csrfToken(): string {
  return localStorage.getItem(tokenKey) ?? '';
}

/** How this server and this browser stand. Throws {@link ApiError}, `TypeError` while nobody answers. */
export async function readSession(): Promise<SessionState> {
  const answer = await fetch('./session', { cache: 'no-store' });
  if (!answer.ok) throw await errorOf(answer);
  const { required, signed_in: signedIn } = (await answer.json()) as {
    required: boolean;
    signed_in: boolean;
  };
  if (!required) return 'open';
  return signedIn && csrfToken() !== '' ? 'signed-in' : 'signed-out';
}

/** Begins a session with a key or the token of a one-time link. Throws {@link ApiError}. */
export async function signIn(how: { readonly key: string } | { readonly link: string }): Promise<void> {
  const answer = await fetch('./session', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(how),
  });
  if (!answer.ok) throw await errorOf(answer);
  const { csrf } = (await answer.json()) as { csrf?: string };
  if (csrf !== undefined) localStorage.setItem(tokenKey, csrf);
}

/** Ends the session, here and on the server. */
export async function signOut(): Promise<void> {
  await fetch('./session', { method: 'DELETE', headers: { 'x-cryobox-csrf': csrfToken() } }).catch(
    (error: unknown) => {
      if (!(error instanceof TypeError) && !(error instanceof ApiError)) throw error;
    },
  );
  localStorage.removeItem(tokenKey);
}

/** Takes the token of a one-time link out of the address, so that it is not kept there. */
export function takeLinkToken(): string | undefined {
  const token = /^#link=([\w-]+)$/.exec(location.hash)?.[1];
  if (token !== undefined) history.replaceState(null, '', './');
  return token;
}
