import type { SecretChange, SecretInfo, SecretOptions } from '../api/index.js';
import { compact, type JsonObject, text, texts } from './json.js';

/** A secret of a box that is to be made: an item of `secrets`, as other clients of this dialect send it. */
export interface SecretJson {
  readonly name: string;
  readonly value: string;
  readonly hosts: readonly string[];
  readonly placeholder?: string;
}

/** Body of `PUT {p}/boxes/{id}/secrets/{name}`. */
export interface SecretChangeJson {
  readonly value?: string;
  readonly hosts?: readonly string[];
  readonly placeholder?: string;
}

/** How placeholders begin of clients that name the variable after the secret. */
const namedPlaceholder = '<BOXLITE_SECRET:';
const namedVariable = 'BOXLITE_SECRET_';

/** Secrets of a box that is to be made, on the wire. */
export function secretsToJson(
  secrets: Readonly<Record<string, SecretOptions>> | undefined,
): readonly SecretJson[] | undefined {
  if (!secrets) return undefined;
  return Object.entries(secrets).map(([name, { value, hosts, placeholder }]) =>
    compact({ name, value, hosts, placeholder }),
  );
}

/**
 * The inverse of {@link secretsToJson}. Of a BoxLite client's secret `key`, whose placeholder is `<BOXLITE_SECRET:key>`, the
 * variable in the box is `BOXLITE_SECRET_KEY`.
 */
export function secretsFromJson(
  items: readonly SecretJson[] | undefined,
): Readonly<Record<string, SecretOptions>> | undefined {
  if (!items) return undefined;
  return Object.fromEntries(
    items.map(({ name, ...secret }) => {
      const isNamed = secret.placeholder?.startsWith(namedPlaceholder) === true;
      const variable = isNamed ? namedVariable + name.toUpperCase().replace(/[^A-Z0-9]/g, '_') : name;
      return [variable, compact(secret)];
    }),
  );
}

/** A change of a secret on the wire. */
export function secretChangeToJson({ value, hosts, placeholder }: SecretChange): SecretChangeJson {
  return compact({ value, hosts, placeholder });
}

/** What is told of a secret, on the wire. */
export function secretToJson({ name, placeholder, hosts, hasValue }: SecretInfo): JsonObject {
  return { name, placeholder, hosts, has_value: hasValue };
}

/** The inverse of {@link secretToJson}. */
export function secretFromJson(json: JsonObject): SecretInfo {
  return {
    name: text(json, 'name'),
    placeholder: text(json, 'placeholder'),
    hosts: texts(json, 'hosts'),
    hasValue: json['has_value'] === true,
  };
}
