import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import { z } from 'zod';
import { ifExists } from '../base/files.js';
import { CryoboxError, messageOf } from '../errors.js';
import { lookedInto, type NetworkConfig } from './rules.js';

/** `HOME/network.json`: what the owner of a home says of the network of all its boxes that have lists. */
const settings = z.strictObject({
  /**
   * Who reaches the private ranges (10/8, 172.16/12, 192.168/16, 100.64/10): `allow`: as any address; `listed`: who has
   * them in `allowNet` as addresses; `deny`: nobody.
   */
  private: z.enum(['allow', 'listed', 'deny']).default('listed'),
  /** Name servers that are asked, each with or without a port. Empty: those of the host. */
  resolvers: z.array(z.string().transform(resolverOf)).max(8).default([]),
  /** Files of certificates (PEM) that servers of secrets' hosts may have theirs from, beside the host's roots. */
  roots: z.array(z.string().startsWith('/')).max(16).default([]),
});

/** What a gateway goes by. */
export interface GatewayPolicy {
  readonly mode: 'enabled' | 'disabled';
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  /** Hosts of secrets, with ports: requests to them go to the process that puts values in. */
  readonly intercept: readonly string[];
  /** What becomes of what no list names. */
  readonly otherwise: 'allow' | 'refuse';
  readonly private: 'allow' | 'listed' | 'deny';
  readonly resolvers: readonly string[];
  /** Bytes a second; absent: as many as go. */
  readonly rates?: { readonly send?: number | undefined; readonly receive?: number | undefined };
}

function resolverOf(text: string, ctx: z.RefinementCtx<string>): string {
  const match = /^(\d+(?:\.\d+){3})(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[2] ?? 53);
  if (match && isIP(match[1] ?? '') === 4 && port > 0 && port < 65_536) return `${match[1]}:${port}`;
  ctx.addIssue({ code: 'custom', message: 'should be an IPv4 address with or without :PORT' });
  return z.NEVER;
}

/** The policy of a box in a home with these settings. Throws `config_error` when they cannot be understood. */
export async function policyOf(settingsPath: string, network: NetworkConfig): Promise<GatewayPolicy> {
  const { private: ranges, resolvers } = await readSettings(settingsPath);
  const { rateLimit: limit, intercept = [] } = network;
  const allowsAll = network.allowNet.length === 0 || network.allowNet.includes('*');
  return {
    mode: network.outbound,
    // What a secret is for is reached; where there is no list everything is.
    allow: allowsAll ? network.allowNet : [...network.allowNet, ...intercept],
    deny: network.denyNet,
    intercept: lookedInto(intercept),
    otherwise: allowsAll ? 'allow' : 'refuse',
    private: ranges,
    resolvers,
    ...(limit && { rates: { send: limit.sendBytesPerSecond, receive: limit.receiveBytesPerSecond } }),
  };
}

/** Where the roots of the host are, by distribution: Debian and Alpine, Fedora, SUSE. */
const hostRoots = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
];

/**
 * Roots that servers of secrets' hosts are checked against, as PEM: those of the host and those that the settings add. Null
 * where that is none. Throws `config_error` for a file that cannot be read.
 */
export async function rootsOf(settingsPath: string): Promise<readonly string[] | null> {
  const { roots } = await readSettings(settingsPath);
  const own = await Promise.all(hostRoots.map((path) => ifExists(readFile(path, 'utf8'))));
  const added = await Promise.all(roots.map((path) => readFile(path, 'utf8'))).catch((error: unknown) => {
    throw new CryoboxError('config_error', `${settingsPath}: roots: ${messageOf(error)}`, { cause: error });
  });
  const found = own.find((text) => text !== undefined);
  // Those that came with Node stand in for a host's that has none.
  if (found !== undefined) return [found, ...added];
  return added.length > 0 ? [...rootCertificates, ...added] : null;
}

async function readSettings(path: string): Promise<z.output<typeof settings>> {
  const content = await ifExists(readFile(path, 'utf8'));
  try {
    return settings.parse(JSON.parse(content ?? '{}'));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new CryoboxError('config_error', `${path}: ${why}`, {
      hint: 'See docs/networking.md.',
      cause: error,
    });
  }
}
