import { CryoboxError } from '../../errors.js';

/** What a key may do: the scopes of v1 (contract, section 1.2), and those of what ours adds. */
export const scopes = [
  'box:read',
  'box:write',
  'box:exec',
  'box:delete',
  'image:read',
  'image:write',
  'template:read',
  'template:write',
  'volume:read',
  'volume:write',
  'me:read',
  'admin',
] as const;

/** What a runtime may do on its own for who asks. */
export interface RuntimeAccess {
  /** Whether boxes are started or resumed when they are used. */
  readonly wakes: boolean;
}

/**
 * One scope. `admin` is housekeeping over all tenants (`gc`, `verify`), what reads the host's own files (importing an
 * image from a path, building one), and what can attack it: importing a box with its memory.
 */
export type Scope = (typeof scopes)[number];

/** Who is asking. */
export interface Principal {
  readonly id: string;
  /** Whose boxes, snapshots, templates and images it sees; also the path prefix of its URLs. Empty: the default tenant. */
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  readonly expiresAt: Date | null;
  readonly displayName?: string;
}

/** Knows who a bearer token stands for. */
export interface Authenticator {
  /** The principal of a token, or null when there is none, or it has expired. */
  authenticate(token: string): Promise<Principal | null>;
  /** Whether requests need a key now; asked at every request. @default always */
  isRequired?(): Promise<boolean>;
}

/** Who asks where no keys are used: on the engine's own socket everything is allowed. */
export function localPrincipal(prefix: string | null): Principal {
  return { id: 'local', tenant: prefix ?? '', scopes, expiresAt: null };
}

/** Who asks over TCP without keys: any user of this host, so the host's own files stay out of reach. */
export function anonymousPrincipal(prefix: string | null): Principal {
  return {
    id: 'anonymous',
    tenant: prefix ?? '',
    scopes: scopes.filter((scope) => scope !== 'admin'),
    expiresAt: null,
  };
}

/**
 * Whether a principal may bring boxes up that do not run. Who may only read gets what can be had without: a read that
 * starts or resumes a box changes it.
 */
export function mayWake({ scopes }: Principal): boolean {
  return scopes.includes('box:write') || scopes.includes('box:exec');
}

/** Whether that is {@link anonymousPrincipal}. */
export function isAnonymous({ id }: Principal): boolean {
  return id === 'anonymous';
}

/** Longest bearer token that is looked at; keys have less than a hundred characters. */
const maxTokenLength = 512;

/** The token of an `Authorization: Bearer` header, or undefined. */
export function bearerToken(header: string | undefined): string | undefined {
  const match = /^Bearer +(\S+)$/i.exec(header ?? '');
  const token = match?.[1];
  return token !== undefined && token.length <= maxTokenLength ? token : undefined;
}

/** The principal of a request's header; `unauthenticated` when there is none. */
export async function authenticate(
  authenticator: Authenticator,
  header: string | undefined,
): Promise<Principal> {
  const token = bearerToken(header);
  const principal = token === undefined ? null : await authenticator.authenticate(token);
  const expired = principal?.expiresAt && principal.expiresAt.getTime() <= Date.now();
  if (!principal || expired) throw new CryoboxError('unauthenticated', 'invalid or missing API key');
  return principal;
}

/** Whether requests need a key now. */
export async function needsKey(authenticator: Authenticator | null): Promise<boolean> {
  return authenticator !== null && (await (authenticator.isRequired?.() ?? true));
}

/** Who an `Authorization` header stands for now; null when no key is needed. Throws `unauthenticated`. */
export async function holderOf(
  authenticator: Authenticator | null,
  header: string | undefined,
): Promise<Principal | null> {
  if (!authenticator || !(await needsKey(authenticator))) return null;
  return await authenticate(authenticator, header);
}

/** Fails with `permission_denied` unless the principal has the scope, and the URL's prefix is its tenant's. */
export function authorize(principal: Principal, scope: Scope | null, prefix: string | null): void {
  if (prefix !== null && prefix !== principal.tenant) {
    throw new CryoboxError('permission_denied', 'This key does not belong to the prefix of the URL', {
      hint: 'Use the prefix that GET /v1/me shows, or none.',
    });
  }
  if (scope !== null && !principal.scopes.includes(scope)) {
    throw new CryoboxError('permission_denied', `This key lacks the scope ${scope}`, { details: { scope } });
  }
}
