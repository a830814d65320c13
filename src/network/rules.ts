import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { boxLimits, type NetworkOptions, type NetworkRateLimit, type NetworkSettings } from '../api/index.js';
import { CryoboxError } from '../errors.js';

/** Longest name (RFC 1035, section 2.3.4). */
const maxNameLength = 253;
const labelPattern = /^[a-z0-9_-]{1,63}$/;

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** What of a box's network is stored: everything said, and rules as the gateway reads them. */
export type NetworkConfig = NetworkSettings & {
  /** Hosts of the box's secrets, with ports; absent: none. They are kept with the secrets. */
  readonly intercept?: readonly string[];
};

/** Servers that a value may go to. */
export interface SecretServers {
  /** A name, or `*.suffix`. */
  readonly name: string;
  readonly firstPort: number;
  readonly lastPort: number;
  /** Whether by TLS, or without. */
  readonly tls: boolean;
}

/** What a host of a secret begins with whose requests get the value without TLS too. */
const plainScheme = 'http://';
/** Where a host of a secret is reached that names no port (RFC 9110, section 4.2). */
const httpsPort = 443;
const httpPort = 80;

/** A host of a secret, taken apart: whether TLS is needed, and a rule of a gateway with its ports. */
function secretHost(host: string): { readonly isPlain: boolean; readonly rule: string } {
  const isPlain = host.startsWith(plainScheme);
  const rule = isPlain ? host.slice(plainScheme.length) : host;
  return { isPlain, rule: rule.includes(':') ? rule : `${rule}:${isPlain ? httpPort : httpsPort}` };
}

/** Hosts of a secret in one form. Throws `invalid_argument` naming the host. */
export function normalSecretHosts(where: string, hosts: readonly string[]): readonly string[] {
  const normal = hosts.map((host, index) => {
    const scheme = typeof host === 'string' && host.startsWith(plainScheme) ? plainScheme : '';
    const rule = normalRule(where, scheme ? host.slice(scheme.length) : host, index);
    const [name = ''] = rule.split(':');
    if (name !== '*' && normalRange(name) === undefined) return scheme + rule;
    throw invalid(
      `${where}[${index}] is ${JSON.stringify(host)}, expected a host name or *.suffix, with or without http:// before it`,
    );
  });
  return [...new Set(normal)];
}

/** Hosts of secrets as rules of a gateway, each with its ports: where a box with them may connect to. */
export function secretRules(hosts: readonly string[]): readonly string[] {
  return [...new Set(hosts.map((host) => secretHost(host).rule))];
}

/**
 * Rules of {@link secretRules} for what is looked into: those, and requests without TLS, which would take a placeholder to
 * a server that can do nothing with it.
 */
export function lookedInto(rules: readonly string[]): readonly string[] {
  return [...new Set([...rules, ...rules.map((rule) => `${rule.split(':')[0]}:${httpPort}`)])];
}

/** Hosts of a secret, taken apart for whoever puts its value in. */
export function secretServers(hosts: readonly string[]): readonly SecretServers[] {
  return hosts.map((host) => {
    const { isPlain, rule } = secretHost(host);
    const [name = '', ports = ''] = rule.split(':');
    const [firstPort = 0, lastPort = firstPort] = ports.split('-').map(Number);
    return { name, firstPort, lastPort, tls: !isPlain };
  });
}

/**
 * Network options with their defaults, and with rules in one form: lower case, A-labels, no dot at the end, each once.
 * Throws `invalid_argument` naming the rule, `unsupported` for IPv6.
 */
export function normalNetwork(options: NetworkOptions = {}): NetworkConfig {
  return {
    outbound: options.outbound ?? 'enabled',
    allowNet: normalRules('network.allowNet', options.allowNet ?? []),
    denyNet: normalRules('network.denyNet', options.denyNet ?? []),
    ...normalRates(options.rateLimit),
  };
}

const rateNames = ['sendBytesPerSecond', 'receiveBytesPerSecond'] as const;

/** Nothing where nothing is limited. */
function normalRates(given: NetworkRateLimit | undefined): { readonly rateLimit?: NetworkRateLimit } {
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`network.rateLimit must be an object, got ${JSON.stringify(given)}`);
  }
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of entries) {
    const where = `network.rateLimit.${name}`;
    if (!rateNames.some((known) => known === name)) {
      throw new CryoboxError('unsupported', `not supported: ${where}`, { details: { options: [where] } });
    }
    const { min, max } = boxLimits.networkBytesPerSecond;
    if (!Number.isInteger(value) || value < min || value > max) {
      throw invalid(`${where} is ${JSON.stringify(value)}, expected a whole number from ${min} to ${max}`);
    }
  }
  return entries.length === 0 ? {} : { rateLimit: Object.fromEntries(entries) };
}

function normalRules(field: string, rules: readonly string[]): readonly string[] {
  if (!Array.isArray(rules)) throw invalid(`${field} must be a list`);
  if (rules.length > boxLimits.networkRules) {
    throw invalid(`${field} has ${rules.length} rules, at most ${boxLimits.networkRules} are possible`);
  }
  return [...new Set(rules.map((rule, index) => normalRule(field, rule, index)))];
}

function normalRule(field: string, rule: unknown, index: number): string {
  const where = `${field}[${index}]`;
  const isDenied = field === 'network.denyNet';
  const shown = JSON.stringify(String(rule).slice(0, 300));
  const what = isDenied ? 'an address or a range' : 'a host name, *.suffix, an address or a range';
  const wrong = (): CryoboxError =>
    invalid(`${where} is ${shown}, expected ${what}, with or without :PORT or :FIRST-LAST`);
  if (typeof rule !== 'string') throw wrong();
  if (rule.startsWith('[') || isIPv6(rule.split('/')[0] ?? '')) {
    throw new CryoboxError('unsupported', `${where} is ${shown}: boxes have no IPv6`, {
      hint: 'Name the host, or its IPv4 address.',
    });
  }
  const [host = '', ports, ...more] = rule.split(':');
  if (more.length > 0 || (ports !== undefined && !arePorts(ports))) throw wrong();
  const target = normalRange(host) ?? (isDenied ? undefined : normalName(host));
  if (target === undefined && isDenied && normalName(host) !== undefined) {
    throw new CryoboxError('invalid_argument', `${where} is ${shown}: a name cannot be denied`, {
      hint: 'An address of the name would still be reached. Give allowNet, which lets out only what it names.',
    });
  }
  if (target === undefined) throw wrong();
  return ports === undefined ? target : `${target}:${ports}`;
}

function arePorts(text: string): boolean {
  const match = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? first);
  return match !== null && first <= last && last <= 65_535;
}

/** An address, or a range without bits behind its prefix. */
function normalRange(text: string): string | undefined {
  const [address = '', prefix, ...more] = text.split('/');
  if (!isIPv4(address) || more.length > 0) return undefined;
  if (prefix === undefined) return address;
  const bits = /^(\d|[12]\d|3[0-2])$/.test(prefix) ? Number(prefix) : Number.NaN;
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return value % 2 ** (32 - bits) === 0 ? text : undefined;
}

/** A name, `*` and a name, or `*` alone; undefined when it is none. */
function normalName(text: string): string | undefined {
  if (text === '*') return text;
  const isSuffix = text.startsWith('*.');
  const plain = text.slice(isSuffix ? 2 : 0).replace(/\.$/, '');
  // It would take away what has no place in a name, such as a path.
  if (!/^[\p{L}\p{N}\p{M}._-]+$/u.test(plain)) return undefined;
  const name = /^[\x20-\x7e]*$/.test(plain) ? plain.toLowerCase() : domainToASCII(plain);
  const labels = name.split('.');
  if (name.length > maxNameLength || !labels.every((label) => labelPattern.test(label))) return undefined;
  // What ends with a number is an address, in whatever form.
  if (/^\d+$/.test(labels.at(-1) ?? '')) return undefined;
  return isSuffix ? `*.${name}` : name;
}

/** Whether a box's connections have to be looked at: then its card leads to a gateway. */
export function needsGateway({ allowNet, denyNet, rateLimit, intercept = [] }: NetworkConfig): boolean {
  return allowNet.length > 0 || denyNet.length > 0 || rateLimit !== undefined || intercept.length > 0;
}
