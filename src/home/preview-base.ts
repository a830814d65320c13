import { isIP } from 'node:net';
import { CryoboxError } from '../errors.js';

/**
 * The URL below whose host previews are found: that of a server, by a name instead of its address. `domain`: a name, a name
 * with a port, or an URL. Undefined of a unix socket. Throws `invalid_argument` for what has no names below it.
 */
export function previewBase(serverUrl: string, domain = 'localhost'): URL | undefined {
  const own = new URL(serverUrl);
  if (!/^https?:$/.test(own.protocol)) return undefined;
  const isUrl = /^https?:\/\//.test(domain);
  const hasPort = /:\d+\/?$/.test(domain);
  const text = isUrl
    ? domain
    : `${own.protocol}//${domain}${hasPort || own.port === '' ? '' : `:${own.port}`}`;
  const base = URL.canParse(text) ? new URL(text) : undefined;
  const isName = base && isIP(base.hostname.replace(/^\[|\]$/g, '')) === 0;
  if (base && isName && base.href === `${base.protocol}//${base.host}/`) return base;
  throw new CryoboxError('invalid_argument', `${JSON.stringify(domain)} cannot be the domain of previews`, {
    hint: 'Write a name whose subdomains lead here, such as previews.example or https://previews.example.',
  });
}
