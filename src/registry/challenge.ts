/** `WWW-Authenticate` of registries (RFC 9110, 11.6.1; CNCF distribution, "Token Authentication Specification"). */

/** What a registry asks for before it answers. */
export type Challenge =
  | { readonly scheme: 'basic' }
  | {
      readonly scheme: 'bearer';
      readonly realm: string;
      readonly service: string | undefined;
      readonly scope: string | undefined;
    };

/** Longer headers hold no challenge of a registry. */
const maxHeaderChars = 8192;

/** The challenge to answer: bearer when it is offered, else basic; undefined when there is neither. */
export function parseChallenge(header: string | readonly string[] | undefined): Challenge | undefined {
  const lines = typeof header === 'string' ? [header] : (header ?? []);
  let basic: Challenge | undefined;
  for (const line of lines) {
    if (line.length > maxHeaderChars) continue;
    const bearer = /(?:^|,\s*)bearer\s+(.*)$/i.exec(line)?.[1];
    const parameters = bearer === undefined ? undefined : parseParameters(bearer);
    const realm = parameters?.get('realm');
    if (realm !== undefined) {
      return {
        scheme: 'bearer',
        realm,
        service: parameters?.get('service'),
        scope: parameters?.get('scope'),
      };
    }
    if (/(?:^|,\s*)basic(?:\s|$)/i.test(line)) basic = { scheme: 'basic' };
  }
  return basic;
}

/** `key="value", key=value`; a quoted value may hold escaped characters. */
function parseParameters(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const match of text.matchAll(/([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi)) {
    const [, key = '', quoted, plain] = match;
    found.set(key.toLowerCase(), quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1'));
  }
  return found;
}
