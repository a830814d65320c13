/** One registry (OCI distribution spec, "Pull"). */
import { type Dispatcher, request } from 'undici';
import { CryoboxError, errnoOf } from '../errors.js';
import { Authorizer } from './authorizer.js';
import type { CredentialSource } from './credentials.js';
import { failureOfConnection, failureOfStatus, RegistryFailure } from './failure.js';
import { type Reach, ReachRule } from './reach.js';
import { readErrorMessage, readRetryAfter } from './responses.js';
import {
  hostOf,
  isDirect,
  isLoopback,
  makeDispatcher,
  type RegistrySettings,
  type Timeouts,
} from './settings.js';

/** Registries redirect once, to where their blobs lie. */
const maxRedirects = 5;
const redirectStatuses = new Set([301, 302, 303, 307, 308]);

/** What is asked of a registry. */
export interface RegistryRequest {
  readonly repository: string;
  /** Path behind the repository, such as `manifests/latest`. */
  readonly path: string;
  /** What a message calls it. */
  readonly what: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A client of one registry; connections and tokens are kept between requests. */
export class RegistryClient {
  readonly registry: string;
  readonly #settings: RegistrySettings;
  readonly #timeouts: Timeouts;
  readonly #rule: ReachRule;
  readonly #authorizer: Authorizer;
  #dispatcher: Promise<Dispatcher> | undefined;
  #scheme: 'http' | 'https' | undefined;

  constructor(options: {
    readonly registry: string;
    readonly settings: RegistrySettings;
    readonly credentials: CredentialSource;
    readonly timeouts: Timeouts;
    readonly reach: Reach;
  }) {
    this.registry = options.registry;
    this.#settings = options.settings;
    this.#timeouts = options.timeouts;
    this.#rule = new ReachRule(hostOf(options.registry), options.reach);
    if (this.#settings.plainHttp) this.#scheme = 'http';
    else if (this.#settings.plainHttp === false || !isLoopback(options.registry)) this.#scheme = 'https';
    this.#authorizer = new Authorizer(options.registry, options.credentials, (url, init) =>
      this.#send(url, init),
    );
  }

  /**
   * Asks for something of a repository, with authorization and redirects. The answer has status 200 or 206, and its body
   * must be read or destroyed. Throws {@link RegistryFailure} for everything else.
   */
  async get(wanted: RegistryRequest): Promise<Dispatcher.ResponseData> {
    try {
      const base = await this.#baseUrl(wanted.signal);
      const url = new URL(`/v2/${wanted.repository}/${wanted.path}`, base);
      const { response: first, isHome } = await this.#follow(
        url,
        wanted,
        this.#authorizer.header(wanted.repository),
      );
      // A host the registry leads to is none that may ask for the registry's credentials.
      if (first.statusCode !== 401 || !isHome) return await this.#accept(first, wanted);
      const header = await this.#authorizer.answer(
        wanted.repository,
        first.headers['www-authenticate'],
        url,
        wanted.signal,
      );
      if (header === undefined) return await this.#accept(first, wanted);
      await first.body.dump();
      const { response } = await this.#follow(url, wanted, header);
      return await this.#accept(response, wanted);
    } catch (error) {
      if (wanted.signal?.aborted) throw error;
      throw failureOfConnection(error, wanted.what, this.registry);
    }
  }

  /** Ends connections as they become idle; the next request makes new ones. */
  async rest(): Promise<void> {
    const dispatcher = await this.#forget();
    await dispatcher?.close();
  }

  /** Ends all connections at once. */
  async close(): Promise<void> {
    const dispatcher = await this.#forget();
    await dispatcher?.destroy();
  }

  async #forget(): Promise<Dispatcher | undefined> {
    const dispatcher = this.#dispatcher;
    this.#dispatcher = undefined;
    return await dispatcher?.catch(() => undefined);
  }

  async #accept(
    response: Dispatcher.ResponseData,
    wanted: RegistryRequest,
  ): Promise<Dispatcher.ResponseData> {
    const { statusCode: status, headers, body } = response;
    if (status === 200 || status === 206) return response;
    const message = await readErrorMessage(body);
    const refusal = { status, message, retryAfterMs: readRetryAfter(headers['retry-after']) };
    throw failureOfStatus(refusal, wanted.what, this.registry);
  }

  /** Follows redirects; another host never sees the authorization meant for this one. */
  async #follow(
    start: URL,
    wanted: RegistryRequest,
    authorization: string | undefined,
  ): Promise<{ readonly response: Dispatcher.ResponseData; readonly isHome: boolean }> {
    let url = start;
    for (let hops = 0; hops <= maxRedirects; hops += 1) {
      const isHome = url.origin === start.origin;
      const headers = {
        ...wanted.headers,
        ...(authorization !== undefined && isHome ? { authorization } : {}),
      };
      const response = await this.#send(url, { method: 'GET', headers, signal: wanted.signal });
      const location = response.headers.location;
      if (!redirectStatuses.has(response.statusCode) || typeof location !== 'string')
        return { response, isHome };
      await response.body.dump();
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
      const isAllowed =
        next?.protocol === 'https:' || (next?.protocol === 'http:' && url.protocol === 'http:');
      if (!next || !isAllowed) throw this.#refuseRedirect(wanted, 'to an address that is not allowed');
      url = next;
    }
    throw this.#refuseRedirect(wanted, `more than ${maxRedirects} times`);
  }

  #refuseRedirect(wanted: RegistryRequest, how: string): RegistryFailure {
    const text = `${this.registry} redirects ${wanted.what} ${how}`;
    return new RegistryFailure(new CryoboxError('image_pull_failed', text), false);
  }

  async #send(
    url: URL,
    init: {
      readonly method: 'GET' | 'POST';
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
      readonly signal?: AbortSignal;
    },
  ): Promise<Dispatcher.ResponseData> {
    if (isDirect(this.registry)) this.#rule.checkLiteral(url);
    else await this.#rule.checkProxied(url);
    return await request(url, {
      ...init,
      headers: { 'user-agent': 'cryobox', ...init.headers },
      dispatcher: await this.#connect(),
    });
  }

  async #connect(): Promise<Dispatcher> {
    this.#dispatcher ??= makeDispatcher(hostOf(this.registry), this.#settings, this.#timeouts, this.#rule);
    try {
      return await this.#dispatcher;
    } catch (error) {
      // A file of authorities that could not be read may be there the next time.
      this.#dispatcher = undefined;
      throw error;
    }
  }

  /** A registry on this host may speak plain HTTP: then TLS fails at its first bytes, and not by a certificate. */
  async #baseUrl(signal?: AbortSignal): Promise<string> {
    const host = hostOf(this.registry);
    if (this.#scheme === undefined) {
      try {
        const response = await this.#send(new URL(`https://${host}/v2/`), { method: 'GET', signal });
        await response.body.dump();
        this.#scheme = 'https';
      } catch (error) {
        const isNoTls = /^(?:EPROTO|ECONNRESET|UND_ERR_SOCKET|ERR_SSL_.*)$/.test(errnoOf(error) ?? '');
        if (!isNoTls) throw error;
        const response = await this.#send(new URL(`http://${host}/v2/`), { method: 'GET', signal });
        await response.body.dump();
        this.#scheme = 'http';
      }
    }
    return `${this.#scheme}://${host}`;
  }
}
