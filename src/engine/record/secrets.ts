import { randomBytes } from 'node:crypto';
import { boxLimits, type SecretChange, type SecretOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { normalSecretHosts } from '../../network/index.js';
import type { BoxConfig, SecretConfigs } from './config.js';

/** Most hosts of a secret: each is a rule of the box's gateway. */
const maxHosts = 8;
/** What servers take in a header. */
const maxValueLength = 8192;
/** Names of environment variables (POSIX.1-2017, section 8.1). */
const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** A header's value begins and ends with no space (RFC 9110, section 5.5). */
const valuePattern = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
/** A shorter one would be met by chance. */
const placeholderPattern = /^[\x21-\x7e]{8,256}$/;
const placeholderBytes = 15;

/**
 * How programs find the certificate that a box with secrets has to trust: each variable with the file that it names. They
 * are set where the box does not set them itself.
 */
export const trustEnv: Readonly<Record<string, string>> = {
  SSL_CERT_FILE: '/etc/cryobox/ca-bundle.pem',
  REQUESTS_CA_BUNDLE: '/etc/cryobox/ca-bundle.pem',
  CURL_CA_BUNDLE: '/etc/cryobox/ca-bundle.pem',
  GIT_SSL_CAINFO: '/etc/cryobox/ca-bundle.pem',
  CARGO_HTTP_CAINFO: '/etc/cryobox/ca-bundle.pem',
  AWS_CA_BUNDLE: '/etc/cryobox/ca-bundle.pem',
  NODE_EXTRA_CA_CERTS: '/etc/cryobox/ca.pem',
  UV_NATIVE_TLS: '1',
  DENO_TLS_CA_STORE: 'system',
};

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** Secrets of a new box: what is stored of them, and their values. Throws `invalid_argument`. */
export function newSecrets(
  given: Readonly<Record<string, SecretOptions>> = {},
  env: Readonly<Record<string, string>> = {},
): { readonly configs: SecretConfigs | undefined; readonly values: ReadonlyMap<string, string> } {
  const entries = Object.entries(given);
  let configs: SecretConfigs = {};
  for (const [name, secret] of entries) configs = withSecret(configs, env, name, secret);
  return {
    configs: entries.length === 0 ? undefined : configs,
    values: new Map(entries.map(([name, { value }]) => [name, value])),
  };
}

/** Secrets with one more, or with one changed. Throws `invalid_argument`, `resource_exhausted`. */
export function withSecret(
  configs: SecretConfigs,
  env: BoxConfig['env'],
  name: string,
  secret: SecretChange,
): SecretConfigs {
  const before = Object.hasOwn(configs, name) ? configs[name] : undefined;
  const where = `secrets.${name.slice(0, 128)}`;
  if (!namePattern.test(name)) {
    throw invalid(
      `secrets holds the name ${JSON.stringify(name.slice(0, 128))}, expected one of an environment variable`,
    );
  }
  if (Object.hasOwn(env, name)) throw invalid(`${where}: env has ${name} too; give one of them`);
  if (!before && Object.keys(configs).length >= boxLimits.secrets) {
    throw new CryoboxError('resource_exhausted', `a box has at most ${boxLimits.secrets} secrets`, {
      hint: 'Remove one that is not needed any more.',
      details: { limit: boxLimits.secrets },
    });
  }
  const placeholder = secret.placeholder ?? before?.placeholder ?? newPlaceholder();
  checkValue(where, secret.value, before !== undefined);
  checkPlaceholder(where, placeholder, configs, name);
  return { ...configs, [name]: { placeholder, hosts: hostsOf(where, secret.hosts ?? before?.hosts) } };
}

function newPlaceholder(): string {
  return `cryobox-secret-${randomBytes(placeholderBytes).toString('hex')}`;
}

function checkValue(where: string, value: unknown, mayBeAbsent: boolean): void {
  if (value === undefined && mayBeAbsent) return;
  // The value is never part of a message.
  if (typeof value === 'string' && value.length <= maxValueLength && valuePattern.test(value)) return;
  throw invalid(
    `${where}.value must have 1 to ${maxValueLength} printable ASCII characters, and no space at its ends`,
  );
}

function checkPlaceholder(where: string, placeholder: unknown, configs: SecretConfigs, name: string): void {
  if (typeof placeholder !== 'string' || !placeholderPattern.test(placeholder)) {
    throw invalid(`${where}.placeholder must have 8 to 256 printable ASCII characters without spaces`);
  }
  const same = Object.entries(configs).find(
    ([other, config]) => other !== name && config.placeholder.toLowerCase() === placeholder.toLowerCase(),
  );
  if (same) throw invalid(`${where}.placeholder is that of ${same[0]}`);
}

function hostsOf(where: string, hosts: unknown): readonly string[] {
  if (!Array.isArray(hosts) || hosts.length === 0 || hosts.length > maxHosts) {
    throw invalid(`${where}.hosts must be a list of 1 to ${maxHosts} hosts`);
  }
  return normalSecretHosts(`${where}.hosts`, hosts as string[]);
}
