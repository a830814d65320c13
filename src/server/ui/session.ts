import { z } from 'zod';
import { isCryoboxError } from '../../errors.js';
import { authenticate, holderOf, needsKey } from '../http/auth.js';
import type { BrowserRequest } from '../http/browser-sessions.js';
import type { Parts } from '../http/parts.js';
import { ok, type Route, route } from '../http/route.js';

const common = { path: '/ui/session', root: true, scope: 'public', hidden: true } as const;

/** A key, or the text of a one-time link: longer ones are none. */
const signInRequest = z.union([
  z.strictObject({ key: z.string().min(1).max(512) }),
  z.strictObject({ link: z.string().min(1).max(512) }),
]);

/** Whether a browser's cookie would let its page in now. */
async function isSignedIn({ authenticator, browsers }: Parts, request: BrowserRequest): Promise<boolean> {
  const authorization = browsers.find(request);
  if (authorization === undefined) return false;
  try {
    await holderOf(authenticator, authorization);
    return true;
  } catch (error) {
    if (isCryoboxError(error, 'unauthenticated')) return false;
    throw error;
  }
}

/** How a browser gets its session, looks at it and ends it. */
export const sessionRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'POST',
    operation: 'ui.signIn',
    summary: 'Begin a session with an API key or a one-time link',
    body: signInRequest,
    answer: { status: 200 },
    handle: async (call) => {
      const { authenticator, browsers } = call.parts;
      if (!authenticator || !(await needsKey(authenticator))) return ok({ required: false });
      const key = 'key' in call.body ? call.body.key : (browsers.takeLink(call.body.link) ?? '');
      await authenticate(authenticator, `Bearer ${key}`);
      const { cookie, csrf, expiresAt } = browsers.begin(key, call);
      const body = { required: true, csrf, expires_at: expiresAt.toISOString() };
      return ok(body, 200, { 'set-cookie': cookie, 'cache-control': 'no-store' });
    },
  }),
  route({
    ...common,
    method: 'GET',
    operation: 'ui.session',
    summary: 'Whether a key is needed, and whether the browser has a session that holds',
    answer: { status: 200 },
    handle: async (call) => {
      const required = await needsKey(call.parts.authenticator);
      const body = { required, signed_in: required && (await isSignedIn(call.parts, call)) };
      return ok(body, 200, { 'cache-control': 'no-store' });
    },
  }),
  route({
    ...common,
    method: 'DELETE',
    operation: 'ui.signOut',
    summary: 'End the session of the browser',
    answer: { status: 204 },
    handle: async (call) => {
      // Of a session whose token is not named, this throws: no other page signs anybody out.
      call.parts.browsers.authorizationOf(call);
      return { status: 204, headers: { 'set-cookie': call.parts.browsers.end(call) } };
    },
  }),
];
