import { z } from 'zod';
import { type SecretChangeJson, secretToJson } from '../../wire/secrets.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { secretHosts, secretName, secretPlaceholder, secretValue } from './schemas/box.js';
import { anyObject } from './schemas/resources.js';

const changeRequest = z.strictObject({
  value: secretValue.optional(),
  hosts: secretHosts.optional(),
  placeholder: secretPlaceholder.optional(),
}) satisfies z.ZodType<SecretChangeJson>;

const secretParams = boxParams.extend({ secret: secretName });

/** Secrets that a box uses and never has. No answer holds a value. */
export const secretRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/secrets',
    operation: 'listSecrets',
    summary: 'The secrets of a box, without their values',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const secrets = await (await boxOf(call)).secrets.list({ signal: call.signal });
      return ok({ secrets: secrets.map(secretToJson) });
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/secrets/:secret',
    operation: 'setSecret',
    summary: 'Add a secret to a box, or give one another value',
    scope: 'box:write',
    params: secretParams,
    body: changeRequest,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const change = { ...call.body, signal: call.signal };
      return ok(secretToJson(await (await boxOf(call)).secrets.set(call.params.secret, change)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/secrets/:secret',
    operation: 'removeSecret',
    summary: 'Remove a secret of a box',
    scope: 'box:write',
    params: secretParams,
    answer: { status: 204 },
    handle: async (call) => {
      await (await boxOf(call)).secrets.remove(call.params.secret, { signal: call.signal });
      return empty;
    },
  }),
];
