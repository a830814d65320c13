/** Authorization at a registry: basic, or tokens of a token server (CNCF distribution, "Token Authentication Specification"). */
import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { CryoboxError } from '../errors.js';
import { type Challenge, parseChallenge } from './challenge.js';
import type { CredentialSource, RegistryCredentials } from './credentials.js';
import { failureOfStatus, RegistryFailure } from './failure.js';
import { readErrorMessage, readLimited, readRetryAfter } from './responses.js';

/** Tokens are a few kilobytes. */
const maxTokenBytes = 256 * 1024;
/** How this program calls itself to a token server that exchanges refresh tokens. */
const clientId = 'cryobox';

const tokenSchema = z.object({ token: z.string().optional(), access_token: z.string().optional() });

type Send = (
  url: URL,
  init: {
    readonly method: 'GET' | 'POST';
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
    readonly signal?: AbortSignal;
  },
) => Promise<Dispatcher.ResponseData>;

/** Remembers what a registry accepts, by repository. */
export class Authorizer {
  readonly #registry: string;
  readonly #credentials: CredentialSource;
  readonly #send: Send;
  readonly #headers = new Map<string, string>();

  constructor(registry: string, credentials: CredentialSource, send: Send) {
    this.#registry = registry;
    this.#credentials = credentials;
    this.#send = send;
  }

  /** The header that was accepted last for a repository. */
  header(repository: string): string | undefined {
    return this.#headers.get(repository);
  }

  /**
   * A header that answers a challenge, or undefined when there is nothing to answer with. A token that expired is
   * replaced, because the registry then challenges again.
   */
  async answer(
    repository: string,
    challengeHeader: string | readonly string[] | undefined,
    url: URL,
    signal?: AbortSignal,
  ): Promise<string | undefined> {
    const challenge = parseChallenge(challengeHeader);
    if (!challenge) return undefined;
    const credentials = await this.#credentials(this.#registry);
    const header =
      challenge.scheme === 'basic'
        ? credentials && basicHeader(credentials)
        : `Bearer ${await this.#fetchToken(challenge, repository, credentials, url, signal)}`;
    if (header === undefined) this.#headers.delete(repository);
    else this.#headers.set(repository, header);
    return header;
  }

  async #fetchToken(
    challenge: Extract<Challenge, { scheme: 'bearer' }>,
    repository: string,
    credentials: RegistryCredentials | undefined,
    registryUrl: URL,
    signal?: AbortSignal,
  ): Promise<string> {
    const realm = this.#checkRealm(challenge.realm, registryUrl);
    const scope = challenge.scope ?? `repository:${repository}:pull`;
    const response = credentials?.identityToken
      ? await this.#exchange(realm, challenge.service, scope, credentials.identityToken, signal)
      : await this.#ask(realm, challenge.service, scope, credentials, signal);
    const { statusCode: status, headers, body } = response;
    if (status !== 200) {
      const refusal = {
        status,
        message: await readErrorMessage(body),
        retryAfterMs: readRetryAfter(headers['retry-after']),
      };
      throw failureOfStatus(refusal, `the request for a token for ${repository}`, this.#registry);
    }
    const parsed = tokenSchema.safeParse(parseJson(await readLimited(body, maxTokenBytes)));
    const token = parsed.data?.token || parsed.data?.access_token;
    // The token becomes a header: a line break in it would be another one.
    if (!token || /[^\x21-\x7e]/.test(token))
      throw this.#refuse('answered a request for a token without one');
    return token;
  }

  /**
   * Credentials never go from a registry reached by TLS to a token server without it, and without TLS to no other host.
   * Which addresses it may have is decided at the connection.
   */
  #checkRealm(realm: string, registryUrl: URL): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const isPlainToo = registryUrl.protocol === 'http:' && url?.hostname === registryUrl.hostname;
    const isAllowed = url?.protocol === 'https:' || (url?.protocol === 'http:' && isPlainToo);
    if (!url || !isAllowed) throw this.#refuse('names a token server at an address that is not allowed');
    return url;
  }

  async #ask(
    realm: URL,
    service: string | undefined,
    scope: string,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', scope);
    if (credentials) url.searchParams.set('account', credentials.username);
    const headers: Record<string, string> = credentials ? { authorization: basicHeader(credentials) } : {};
    return await this.#send(url, { method: 'GET', headers, signal });
  }

  async #exchange(
    realm: URL,
    service: string | undefined,
    scope: string,
    refreshToken: string,
    signal?: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: refreshToken,
      client_id: clientId,
      scope,
    });
    if (service !== undefined) form.set('service', service);
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return await this.#send(realm, { method: 'POST', headers, body: form.toString(), signal });
  }

  #refuse(what: string): RegistryFailure {
    return new RegistryFailure(new CryoboxError('image_pull_failed', `${this.#registry} ${what}`), false);
  }
}

function basicHeader({ username, password }: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function parseJson(bytes: Buffer | undefined): unknown {
  try {
    return JSON.parse(bytes?.toString('utf8') ?? '');
  } catch {
    return undefined;
  }
}
