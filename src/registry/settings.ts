import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { environmentValue } from '../base/environment.js';
import { CryoboxError, messageOf } from '../errors.js';
import { defaultRegistry } from '../formats/oci/reference.js';
import { type ReachRule, reachConnector } from './reach.js';

/** How to reach one registry. */
export interface RegistrySettings {
  /** Registries that hold copies, as `host[:port]` or with `http://` or `https://`; asked first, in order. */
  readonly mirrors?: readonly string[];
  /** Speak HTTP without TLS. @default false, but a registry on this host is asked in plain HTTP when it has no TLS */
  readonly plainHttp?: boolean;
  /** PEM file of certificate authorities beside the system's. */
  readonly caFile?: string;
  /** Such authorities as PEM text. */
  readonly ca?: string;
  /** Take any certificate: who sits between can read and change what no digest protects. @default false */
  readonly skipVerify?: boolean;
}

/** Time limits of requests; what stalls longer is asked for again. */
export interface Timeouts {
  readonly connectMs: number;
  /** Until the first byte of an answer. */
  readonly headersMs: number;
  /** Between two pieces of an answer. */
  readonly stallMs: number;
}

/** The limits when the caller names none. */
export const defaultTimeouts: Timeouts = { connectMs: 15_000, headersMs: 60_000, stallMs: 30_000 };

/** Connections to one registry at a time; downloads are limited before they get here. */
const maxConnections = 8;
/** Where undici looks for proxies. */
const proxyVariables = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'];
/** Where the default registry really answers. */
const defaultRegistryHost = `registry-1.${defaultRegistry}`;

/** The host a registry's name stands for. */
export function hostOf(registry: string): string {
  return registry === defaultRegistry ? defaultRegistryHost : registry;
}

/** Whether a registry is on this host: what is said to it leaves no machine. */
export function isLoopback(registry: string): boolean {
  const host = registry.replace(/:[0-9]+$/, '').replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Connections to a registry by its settings, as a rule allows. Proxies of the environment are used, but not for this host. */
export async function makeDispatcher(
  registry: string,
  settings: RegistrySettings,
  timeouts: Timeouts,
  rule: ReachRule,
): Promise<Dispatcher> {
  const tls = {
    timeout: timeouts.connectMs,
    rejectUnauthorized: settings.skipVerify !== true,
    ...(await trustOf(settings)),
  };
  const options = {
    connections: maxConnections,
    headersTimeout: timeouts.headersMs,
    bodyTimeout: timeouts.stallMs,
    connect: reachConnector(tls, rule),
  };
  return isDirect(registry) ? new Agent(options) : new EnvHttpProxyAgent({ ...options, requestTls: tls });
}

/** Whether no proxy of the environment is between this host and a registry. */
export function isDirect(registry: string): boolean {
  return isLoopback(registry) || !proxyVariables.some((name) => environmentValue(name) !== undefined);
}

/** Authorities of a registry's own, with the system's, when it has any. */
async function trustOf({ ca, caFile }: RegistrySettings): Promise<{ readonly ca?: string[] }> {
  if (ca === undefined && caFile === undefined) return {};
  const { rootCertificates } = await import('node:tls');
  const own = [...(ca === undefined ? [] : [ca]), ...(caFile === undefined ? [] : [await readPem(caFile)])];
  return { ca: [...rootCertificates, ...own] };
}

async function readPem(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new CryoboxError(
      'config_error',
      `cannot read the certificate authorities in ${file}: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
