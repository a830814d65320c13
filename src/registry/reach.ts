/** Which hosts a pull may connect to, decided by the address that is connected to. */
import { lookup } from 'node:dns';
import { lookup as resolve } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { CryoboxError } from '../errors.js';
import { isPublicAddress } from './addresses.js';

/** What a caller may have asked. */
export interface Reach {
  /** Whether the caller is a user of this host, who can ask any registry himself. Others reach the public internet. */
  readonly isOwner: boolean;
  /** Hosts, `host` or `host:port`, that may have any address because the operator names them. */
  readonly allowed: readonly string[];
}

/** The reach of a user of this host. */
export const ownerReach: Reach = { isOwner: true, allowed: [] };

/** Fails with `invalid_argument` for what cannot be the name of a registry, and gives the names back. */
export function checkRegistryNames(names: readonly string[]): readonly string[] {
  for (const name of names) {
    if (/^[^\s/?#@\\*]+$/.test(name) && URL.canParse(`https://${name}`)) continue;
    throw new CryoboxError('invalid_argument', `${JSON.stringify(name)} is no name of a registry`, {
      hint: 'Write host or host:port as references do, such as registry.lan:5000.',
    });
  }
  return names;
}

/** The rule for connections of one registry's client. */
export class ReachRule {
  readonly #host: string;
  readonly #isOwner: boolean;
  readonly #own: ReadonlySet<string>;
  readonly #allowed: ReadonlySet<string>;
  /** Where the registry itself was found to be. */
  #ownIsPublic: boolean | undefined;

  /** `host` is where the registry answers, `host[:port]`. */
  constructor(host: string, { isOwner, allowed }: Reach) {
    this.#host = host;
    this.#isOwner = isOwner;
    this.#own = new Set(keysOfName(host));
    this.#allowed = new Set(allowed.flatMap(keysOfName));
  }

  /**
   * Whether a host may have any address. The owner's registry may; a host it leads to only when the registry is itself
   * not on the public internet: no registry out there leads into the networks of who asks it.
   */
  isFree(url: URL): boolean {
    const key = keyOf(url);
    if (this.#allowed.has(key)) return true;
    return this.#isOwner && (this.#own.has(key) || this.#ownIsPublic === false);
  }

  /** Remembers where the registry itself is. A name that had a public address once is never taken for a private one. */
  found(url: URL, address: string | undefined): void {
    if (!this.#own.has(keyOf(url)) || address === undefined) return;
    this.#ownIsPublic = this.#ownIsPublic === true || isPublicAddress(address);
  }

  /** Fails with `permission_denied` for what may not be asked, before anything is sent; names are left to the connection. */
  checkLiteral(url: URL): void {
    const host = hostnameOf(url);
    const isLocalName = /(?:^|\.)localhost\.?$/.test(host);
    const isBad = isLocalName || (isIP(host) !== 0 && !isPublicAddress(host));
    if (isBad && !this.isFree(url)) throw this.refuse(url);
  }

  /** The same where a proxy makes the connection: it looks names up itself, so this look-up is all there is. */
  async checkProxied(url: URL): Promise<void> {
    this.checkLiteral(url);
    if (this.isFree(url)) return;
    const addresses = await resolve(hostnameOf(url), { all: true }).catch(() => []);
    if (addresses.some(({ address }) => !isPublicAddress(address))) throw this.refuse(url);
  }

  /** The error for a host that may not be asked. */
  refuse(url: URL): CryoboxError {
    const text = `${url.host} is not on the public internet, and may not be asked for images here`;
    const hint = this.#isOwner
      ? `If ${this.#host} may lead there, name ${url.host} in registries.json of the home.`
      : `Who runs the server can allow it: cryobox serve --allow-registry ${url.host}`;
    return new CryoboxError('permission_denied', text, { hint, details: { registry: url.host } });
  }
}

/** Host and port. */
function keyOf({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`;
}

/** A name without a port is that of both usual ones. */
function keysOfName(name: string): string[] {
  const schemes = /:[0-9]+$/.test(name) ? ['http'] : ['http', 'https'];
  return schemes
    .map((scheme) => `${scheme}://${name}`)
    .filter((it) => URL.canParse(it))
    .map((it) => keyOf(new URL(it)));
}

function hostnameOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

/**
 * Connects as a rule allows. The address is checked between look-up and connection, so that a name cannot have another
 * one when it is used than when it was checked.
 */
export function reachConnector(
  options: buildConnector.BuildOptions,
  rule: ReachRule,
): buildConnector.connector {
  const free = buildConnector(options);
  return (target, callback) => {
    const url = new URL(`${target.protocol}//${target.host ?? target.hostname}`);
    const done: buildConnector.Callback = (...result) => {
      rule.found(url, result[1]?.remoteAddress);
      callback(...result);
    };
    if (rule.isFree(url)) return free(target, done);
    try {
      rule.checkLiteral(url);
    } catch (error) {
      return callback(error as Error, null);
    }
    return buildConnector({ ...options, lookup: publicLookup(() => rule.refuse(url)) })(target, done);
  };
}

/** A look-up that gives public addresses only, and fails when there are none. */
function publicLookup(refuse: () => Error): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, []);
      const usable = addresses.filter(({ address }) => isPublicAddress(address));
      const [first] = usable;
      if (!first) return callback(refuse(), []);
      if (options.all) return callback(null, usable);
      callback(null, first.address, first.family);
    });
  };
}
