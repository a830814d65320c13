import type { IncomingMessage } from 'node:http';
import { type PreviewAccess, previewToken, type Runtime } from '../../api/index.js';
import { CryoboxError, catalogue } from '../../errors.js';
import type { ErrorWriter } from '../http/errors.js';
import { requestIdOf } from '../http/guard.js';
import type { PortDialect, PortRefusal, PortTarget } from '../http/ports/dialect.js';
import type { Tunnels } from '../http/tunnels.js';

/** A preview of a home, as a server needs it. */
interface ServedPreview {
  readonly boxId: string;
  readonly tenant: string;
  readonly access: PreviewAccess;
  readonly wakes: boolean;
  isToken(text: string): boolean;
  watch(): { readonly signal: AbortSignal } & Disposable;
}

/** Where a server finds previews: by the first label of the host name. */
export interface PreviewSource {
  find(label: string): Promise<ServedPreview | undefined>;
}

interface Needs {
  readonly source: PreviewSource;
  readonly runtimeFor: (tenant: string) => Runtime;
  readonly errors: ErrorWriter;
}

interface Told {
  readonly status: number;
  readonly error: CryoboxError;
}

/** Statuses that tell a proxy from what is behind it. */
const unreachable = 502;
const unavailable = 503;

function told(why: PortRefusal, port: string): Told {
  const told = (error: CryoboxError, status: number = catalogue[error.code].status): Told => ({
    status,
    error,
  });
  switch (why) {
    case 'missing':
      return told(
        new CryoboxError('not_found', 'there is no such preview', {
          hint: '`cryobox preview BOX` lists those of a box.',
        }),
      );
    case 'closed':
      return told(
        new CryoboxError('network_unavailable', `nothing answers on port ${port} of the box`, {
          hint: `Start a program in the box that listens on port ${port}, then ask again.`,
        }),
        unreachable,
      );
    case 'stopped':
      return told(
        new CryoboxError('stopped', 'the box does not run, and requests to it do not bring it up', {
          hint: 'Start or resume the box, then ask again.',
        }),
        unavailable,
      );
    case 'token_missing':
      return told(
        new CryoboxError('unauthenticated', 'this preview is private, and no token was sent', {
          hint: `Send the header ${previewToken}, or open the address with ?${previewToken}=TOKEN.`,
        }),
      );
    case 'token_wrong':
      return told(
        new CryoboxError('permission_denied', 'the token is not that of this preview', {
          hint: 'Use the token that was shown when the preview was made, or make another preview.',
        }),
      );
    case 'busy':
      return told(
        new CryoboxError('resource_exhausted', 'too many requests to this preview are under way', {
          hint: 'Wait until some of them have ended.',
        }),
      );
    default:
      return told(why);
  }
}

/** For people: nothing in it was written by who asks. */
function pageOf({ message, hint }: { readonly message: string; readonly hint?: string | undefined }): string {
  const [title, next] = [message, hint ?? ''].map((text) =>
    text.replaceAll('&', '&amp;').replaceAll('<', '&lt;'),
  );
  return `<!doctype html><html lang="en"><head><title>${title}</title></head><body><h1>${title}</h1><p>${next}</p></body></html>`;
}

/** The label of a host name `PORT-pID.` of any domain, or `PORT-bID.` of a port of a public box. */
function labelOf({ headers }: IncomingMessage): string | undefined {
  return /^(\d{1,5}-[pb][0-9a-z]{26})\./i.exec(headers.host ?? '')?.[1]?.toLowerCase();
}

/**
 * The previews of boxes. A host name of one is never one of the API: what is asked by it goes to a box or is refused, with
 * a page where a browser shows it.
 */
export function previewPorts({ source, runtimeFor, errors }: Needs): PortDialect<string> {
  return {
    operation: 'previewPort',
    addressOf: labelOf,
    keyOf: (label) => label,
    find: async (label): Promise<PortTarget | undefined> => {
      const found = await source.find(label);
      if (!found) return undefined;
      const { access, boxId, tenant, wakes, isToken, watch } = found;
      return {
        access: access === 'public' ? 'public' : { name: previewToken, isToken },
        watch,
        connect: async (signal) => {
          const box = await runtimeFor(tenant).get(boxId, { signal });
          if (!box) throw new CryoboxError('not_found', 'the box is gone');
          return await box.dial(Number.parseInt(label, 10), { signal, wake: wakes });
        },
      };
    },
    refusal: (label, why, request) => refusalBy(errors, label, why, request),
  };
}

/**
 * The tunnels of a server (v1 contract, section 1.8) as HTTP and WebSockets: at the host name `PORT-SECRET.` of any domain,
 * which is all that is asked for.
 */
export function tunnelPorts(tunnels: Tunnels, errors: ErrorWriter): PortDialect<string> {
  return {
    operation: 'tunnelPort',
    addressOf: ({ headers }) => tunnels.labelOf(headers.host),
    keyOf: (label) => label,
    find: async (label): Promise<PortTarget | undefined> => {
      const tunnel = await tunnels.find(label);
      if (!tunnel) return undefined;
      return {
        access: 'public',
        watch: () => tunnels.watch(tunnel),
        connect: (signal) => tunnel.box.dial(tunnel.port, { signal, wake: false }),
      };
    },
    refusal: (label, why, request) => refusalBy(errors, label, why, request),
  };
}

function refusalBy(
  errors: ErrorWriter,
  label: string,
  why: PortRefusal,
  request: IncomingMessage,
): ReturnType<PortDialect['refusal']> {
  const { status, error } = told(why, label.split('-')[0] ?? '');
  if (request.headers.accept?.includes('text/html')) {
    return { status, contentType: 'text/html; charset=utf-8', body: pageOf(errors.json(error)) };
  }
  const { body } = errors.answer(error, requestIdOf(request));
  return { status, contentType: 'application/json; charset=utf-8', body: JSON.stringify(body) };
}
