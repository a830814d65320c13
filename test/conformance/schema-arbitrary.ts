import fc from 'fast-check';

/** What of a JSON schema (2020-12) the server's document uses. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxItems?: number;
}

/** A description with its named schemas where they are referred to. None of them holds itself. */
export function withoutReferences(document: unknown): unknown {
  const { schemas } = (document as { components: { schemas: Readonly<Record<string, unknown>> } }).components;
  const whole = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(whole);
    if (typeof part !== 'object' || part === null) return part;
    const name = '$ref' in part && /^#\/components\/schemas\/(\w+)$/.exec(String(part.$ref))?.[1];
    if (name) return whole(schemas[name]);
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, whole(value)]));
  };
  return whole(document);
}

/** Values by the name of the field or parameter, where a schema allows more than a small host can bear. */
export type Known = Readonly<Record<string, fc.Arbitrary<unknown>>>;

/** Values of a schema, and now and then something else: no kind of body must be left out. */
export function valuesOf(schema: JsonSchema, known: Known, name = ''): fc.Arbitrary<unknown> {
  const fitting = known[name] ?? fittingValue(schema, known);
  return fc.oneof(
    { weight: 20, arbitrary: fitting },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  );
}

/** A value, more often none. */
export function now(value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });
}

function fittingValue(schema: JsonSchema, known: Known): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (choices) return fc.oneof(...choices.map((choice) => fittingValue(choice, known)));
  const types = [schema.type ?? 'null'].flat();
  return fc.oneof(...types.map((type) => ofType(type, schema, known)));
}

function ofType(type: string, schema: JsonSchema, known: Known): fc.Arbitrary<unknown> {
  const { minimum = -5, maximum = 100_000 } = schema;
  switch (type) {
    case 'boolean':
      return fc.boolean();
    case 'integer':
      return fc.constantFrom(minimum, minimum - 1, minimum + 1, maximum, maximum + 1, 1.5);
    case 'number':
      return fc.constantFrom(minimum, maximum, maximum + 1, 0.5);
    case 'string':
      return fc.oneof(
        fc.constantFrom('', 'x', '..', '/root/x', 'a/b', '\0', 'é', 'SIGTERM', 'true', '644'),
        fc.string(),
      );
    case 'array':
      return fc.array(valuesOf(schema.items ?? {}, known), { maxLength: 4 });
    case 'object':
      return objectOf(schema, known);
    default:
      return fc.constant(null);
  }
}

function objectOf(schema: JsonSchema, known: Known): fc.Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties } = schema;
  const fields = Object.fromEntries(
    Object.entries(properties).map(([name, field]) => {
      const value = valuesOf(field, known, name);
      return [name, required.includes(name) ? value : now(value)];
    }),
  );
  const others =
    typeof additionalProperties === 'object'
      ? fc.dictionary(fc.string({ maxLength: 8 }), valuesOf(additionalProperties, known), { maxKeys: 3 })
      : fc.oneof(
          { weight: 20, arbitrary: fc.constant({}) },
          { weight: 1, arbitrary: fc.constant({ unknown: 1 }) },
        );
  return fc.tuple(fc.record(fields), others).map(([one, other]) => ({ ...one, ...other }));
}
