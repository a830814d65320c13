/** Image references as container tools write them (distribution project, "reference" grammar). */
import { CryoboxError } from '../../errors.js';
import { isDigest } from './digest.js';

/** The registry of a reference that names none. */
export const defaultRegistry = 'docker.io';
const defaultTag = 'latest';
/** Where the default registry keeps images without an owner. */
const officialOwner = 'library';
/** The grammar's limit for registry and repository together. */
const maxNameChars = 255;
/** Longer than any legal reference, so that patterns never run over more. */
const maxReferenceChars = 512;

const registryPattern = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;

/** A reference with its defaults filled in. */
export interface ImageReference {
  /** Host, with port when one is given. */
  readonly registry: string;
  /** Path within the registry, such as `library/alpine`. */
  readonly repository: string;
  /** `latest` when neither tag nor digest is given; undefined with a digest alone. */
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/**
 * Parses `alpine`, `alpine:3.20`, `owner/name@sha256:...`, `host:5000/a/b:tag`. Throws `invalid_argument` saying what
 * part is wrong.
 */
export function parseReference(text: string): ImageReference {
  if (text === '' || text.length > maxReferenceChars)
    throw invalid(text, `must have 1 to ${maxReferenceChars} characters`);
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest))
    throw invalid(text, 'must have sha256: and 64 hex digits behind the @');
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  const hasTag = colon > rest.lastIndexOf('/');
  const tag = hasTag ? rest.slice(colon + 1) : undefined;
  if (tag !== undefined && !tagPattern.test(tag))
    throw invalid(text, 'has a tag with characters a tag cannot have');
  const { registry, path } = splitRegistry(hasTag ? rest.slice(0, colon) : rest);
  if (!registryPattern.test(registry)) throw invalid(text, 'has a registry that is no host name');
  const components = path.split('/');
  if (!components.every((component) => componentPattern.test(component))) {
    throw invalid(text, 'must have a repository of lower case letters, digits and single separators');
  }
  const repository =
    registry === defaultRegistry && components.length === 1 ? `${officialOwner}/${path}` : path;
  if (registry.length + repository.length + 1 > maxNameChars)
    throw invalid(text, `has a name of more than ${maxNameChars} characters`);
  return { registry, repository, tag: tag ?? (digest === undefined ? defaultTag : undefined), digest };
}

/** Parses a name without tag and digest, such as `alpine` or `host:5000/a/b`. Throws `invalid_argument` where there is one. */
export function parseName(text: string): ImageReference {
  const parsed = parseReference(text);
  if (!text.includes('@') && text.lastIndexOf(':') <= text.lastIndexOf('/')) return parsed;
  const name = shortRepository(parsed);
  throw new CryoboxError(
    'invalid_argument',
    `${JSON.stringify(text)} has a tag or a digest, expected a name`,
    {
      hint: `Write the name alone, such as ${JSON.stringify(name)}.`,
      details: { name },
    },
  );
}

/** The full form of a reference, the same for all ways to write it: `docker.io/library/alpine:latest`. */
export function formatReference(reference: ImageReference): string {
  return `${reference.registry}/${reference.repository}${suffixOf(reference)}`;
}

/** The form for people: without the default registry and `library/`. */
export function shortReference(reference: ImageReference): string {
  return `${shortRepository(reference)}${suffixOf(reference)}`;
}

/** The repository for people: `alpine`, `owner/name`, `host:5000/a/b`. */
export function shortRepository({ registry, repository }: ImageReference): string {
  if (registry !== defaultRegistry) return `${registry}/${repository}`;
  const official = `${officialOwner}/`;
  return repository.startsWith(official) ? repository.slice(official.length) : repository;
}

function suffixOf({ tag, digest }: ImageReference): string {
  return `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** The first part is a registry when it looks like a host: a dot, a port, or `localhost`. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isHost = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  if (!isHost) return { registry: defaultRegistry, path: name };
  const registry = first === `index.${defaultRegistry}` ? defaultRegistry : first;
  return { registry, path: name.slice(slash + 1) };
}

function invalid(text: string, what: string): CryoboxError {
  const shown = text.length > maxReferenceChars ? `${text.slice(0, 60)}...` : text;
  return new CryoboxError('invalid_argument', `the image reference ${JSON.stringify(shown)} ${what}`, {
    hint: 'Write it as name[:tag], owner/name[:tag], host[:port]/path[:tag] or with @sha256:digest.',
  });
}
