import type { IncomingHttpHeaders } from 'node:http';
import { type CryoboxError, catalogue } from '../../errors.js';
import { bearerToken, type Principal } from '../http/auth.js';
import type { ForeignDialect } from '../http/route.js';
import { connectCodeOf } from './envd/rpc-errors.js';

/** A message with what to do next: clients show nothing else. */
function textOf({ message, hint }: CryoboxError): string {
  return `${message}. ${hint}`;
}

/** The sandbox that an error is about when nothing serves it. */
function unservedSandbox({ code, details }: CryoboxError): string | undefined {
  const { sandboxId } = details;
  return code === 'stopped' && typeof sandboxId === 'string' ? sandboxId : undefined;
}

/** `{code, message}` with the status as a number; a sandbox that nothing serves is a gateway's error. */
export function httpAnswer(error: CryoboxError): { status: number; body: unknown } {
  const sandboxId = unservedSandbox(error);
  if (sandboxId !== undefined) {
    return { status: 502, body: { sandboxId, message: error.message, code: 502 } };
  }
  const status = statusOf(error);
  return { status, body: { code: status, message: textOf(error) } };
}

/** Codes of the catalogue that E2B's clients know under another status. */
function statusOf({ code }: CryoboxError): number {
  if (code === 'image_not_found') return 404;
  if (code === 'user_not_found') return 401;
  if (code === 'disk_full') return 507;
  return catalogue[code].status;
}

/** The control plane: a key in `X-API-Key`, or as a bearer token. */
export const controlDialect: ForeignDialect = {
  authorization: (headers: IncomingHttpHeaders) => {
    const key = headers['x-api-key'];
    if (typeof key === 'string') return `Bearer ${key}`;
    return bearerToken(headers.authorization) === undefined ? undefined : headers.authorization;
  },
  errorAnswer: httpAnswer,
};

/** The inside of a sandbox over plain HTTP, let in by the sandbox's own token. */
export function envdDialect(admit: ForeignDialect['admit'] & {}): ForeignDialect {
  return { admit, errorAnswer: httpAnswer };
}

/** The inside of a sandbox over Connect's protocol, whose errors have names. */
export function rpcDialect(admit: ForeignDialect['admit'] & {}): ForeignDialect {
  return {
    admit,
    errorAnswer: (error) => {
      if (unservedSandbox(error) !== undefined) return httpAnswer(error);
      const { code, status } = connectCodeOf(error);
      return { status, body: { code, message: error.message } };
    },
  };
}

/** Who asks with the token of a sandbox. */
export function holderOfSandbox(sandboxId: string, tenant: string): Principal {
  return {
    id: `sandbox ${sandboxId}`,
    tenant,
    scopes: ['box:read', 'box:write', 'box:exec'],
    expiresAt: null,
  };
}
