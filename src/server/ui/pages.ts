import { Readable } from 'node:stream';
import { z } from 'zod';
import { type Answer, type Call, notFound, type Route, route } from '../http/route.js';
import { loadPages, type PageFile, type Pages } from './files.js';

/**
 * What our pages may do (Content Security Policy Level 3): run and ask what comes from this server only. The terminal
 * writes its colours into style elements, so that styles may stand in the page; scripts may not.
 */
const contentPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const securityHeaders = {
  'content-security-policy': contentPolicy,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/** Names of assets hold a hash of their content: they never change. */
const forEver = 'public, max-age=31536000, immutable';

const common = { method: 'GET', root: true, scope: 'public', hidden: true, passive: true } as const;

function answerOf({ type, plain, zipped }: PageFile, { headers }: Call, caching: string): Answer {
  const takesGzip = /\bgzip\b/.test(String(headers['accept-encoding'] ?? ''));
  return {
    bytes: Readable.from([takesGzip ? zipped : plain]),
    contentType: type,
    headers: {
      ...securityHeaders,
      vary: 'Accept-Encoding',
      'cache-control': caching,
      ...(takesGzip ? { 'content-encoding': 'gzip' } : {}),
    },
  };
}

/** The files of the dashboard. They hold nothing secret: who asks for them shows no key. */
export function pageRoutes(): readonly Route[] {
  let loaded: Promise<Pages> | undefined;
  const pages = (): Promise<Pages> => {
    loaded ??= loadPages().catch((error: unknown) => {
      // It may be built by the next request.
      loaded = undefined;
      throw error;
    });
    return loaded;
  };
  return [
    route({
      ...common,
      path: '/ui',
      operation: 'ui.redirect',
      summary: 'Where the dashboard is',
      answer: { status: 302 },
      handle: async () => ({ status: 302, headers: { location: '/ui/' } }),
    }),
    route({
      ...common,
      path: '/ui/',
      operation: 'ui.page',
      summary: 'The dashboard',
      answer: { status: 200 },
      handle: async (call) => answerOf((await pages()).index, call, 'no-cache'),
    }),
    route({
      ...common,
      path: '/ui/assets/:file',
      operation: 'ui.asset',
      summary: 'A file of the dashboard',
      params: z.strictObject({ file: z.string().max(128) }),
      answer: { status: 200 },
      handle: async (call) => {
        const { file } = call.params;
        const found = (await pages()).assets.get(file);
        if (!found) throw notFound('file', file);
        return answerOf(found, call, forEver);
      },
    }),
  ];
}
