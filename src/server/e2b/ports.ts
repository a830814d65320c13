import type { IncomingMessage } from 'node:http';
import { isSecret } from '../../base/secret.js';
import { isCryoboxError } from '../../errors.js';
import type { PortDialect, PortRefusal, PortTarget } from '../http/ports/dialect.js';
import { addressOf, envdPort, type SandboxAddress } from './address.js';
import { type E2bContext, requireSandbox, type Sandbox, trafficTokenOf, wake } from './context.js';
import { factsOf } from './facts.js';

/** Header with the token of a private port; a page that a browser opens may have it in its query, once. */
const trafficToken = 'e2b-traffic-access-token';
/** Begins the name of every browser (RFC 9110, section 10.1.5, and what has become of it). */
const browser = /^mozilla\//i;

interface Told {
  readonly status: number;
  /** What clients look for in the message. */
  readonly message: string;
  /** What a person is told. */
  readonly title: string;
}

function told(why: PortRefusal, port: number): Told {
  const secured = 'Sandbox is secured with traffic access token.';
  switch (why) {
    case 'missing':
    case 'stopped':
      return { status: 502, message: 'The sandbox was not found', title: 'Sandbox Not Found' };
    case 'closed':
      return {
        status: 502,
        message: 'The sandbox is running but port is not open',
        title: `The sandbox is running, but there is no service running on port ${port}`,
      };
    case 'token_missing':
      return {
        status: 403,
        message: `${secured} Token header '${trafficToken}' is missing`,
        title: 'Missing Traffic Access Token',
      };
    case 'token_wrong':
      return {
        status: 403,
        message: `${secured} Provided token in header '${trafficToken}' is invalid`,
        title: 'Invalid Traffic Access Token',
      };
    case 'busy':
      return { status: 429, message: 'The sandbox has too many connections', title: 'Too Many Connections' };
    default:
      return { status: 500, message: why.message, title: 'Internal Error' };
  }
}

/** The members that clients read, in a page for people. Nothing in it was written by who asks: an id has letters and digits. */
function pageOf({ title }: Told, sandbox: string): string {
  const id = sandbox.replaceAll(/[^0-9a-z-]/gi, '');
  return `<html><head><title>${title}</title></head><body><h1>${title}</h1><p>Sandbox ${id}</p></body></html>`;
}

function refusal(address: SandboxAddress, why: PortRefusal, { headers }: IncomingMessage) {
  const { sandbox, port } = address;
  const answer = told(why, port);
  const { status, message } = answer;
  if (browser.test(headers['user-agent'] ?? '')) {
    return { status, contentType: 'text/html; charset=utf-8', body: pageOf(answer, sandbox) };
  }
  const body = { sandboxId: sandbox, message, ...(why === 'closed' ? { port } : {}), code: status };
  return { status, contentType: 'application/json; charset=utf-8', body: JSON.stringify(body) };
}

function targetOf(ctx: E2bContext, sandbox: Sandbox, port: number): PortTarget {
  const { box, info } = sandbox;
  const { allowPublicTraffic, maskRequestHost, httpsPorts } = factsOf(info).ports;
  return {
    access: allowPublicTraffic
      ? 'public'
      : { name: trafficToken, isToken: (text) => isSecret(trafficTokenOf(ctx, box.id), text) },
    host: maskRequestHost?.replaceAll(`\${PORT}`, String(port)),
    tls: httpsPorts?.includes(port) ?? false,
    watch: () => ctx.streams.add(sandbox.tenant, box.id),
    connect: async (signal) => {
      await wake(sandbox);
      return await box.dial(port, { signal, wake: false });
    },
  };
}

/** The ports of sandboxes, as E2B's clients reach them. */
export function e2bPorts(ctx: E2bContext): PortDialect<SandboxAddress> {
  return {
    operation: 'e2bPort',
    addressOf: (request) => {
      const address = addressOf(request);
      return address?.port === envdPort ? undefined : address;
    },
    keyOf: ({ sandbox }) => sandbox,
    find: async ({ sandbox, port }) => {
      try {
        return targetOf(ctx, await requireSandbox(ctx, sandbox), port);
      } catch (error) {
        if (isCryoboxError(error, 'stopped') || isCryoboxError(error, 'not_found')) return undefined;
        throw error;
      }
    },
    refusal,
  };
}
