import {
  createJsonSchemaTransform,
  createJsonSchemaTransformObject,
  type jsonSchemaTransform,
} from 'fastify-type-provider-zod';
import { octets, tarMedia } from '../../wire/media.js';
import { named, wholeNumber } from './common-schemas.js';
import type { Route } from './route.js';

const schemaRegistry = named;
const transformObject = createJsonSchemaTransformObject({ schemaRegistry });

/** The transformation of one operation. */
export const describeOperation: typeof jsonSchemaTransform = createJsonSchemaTransform({ schemaRegistry });

interface Document {
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components?: { readonly schemas?: Readonly<Record<string, unknown>> };
}

interface Operation {
  readonly operationId?: string;
  readonly parameters?: readonly { readonly in: string; schema: Schema }[];
  requestBody?: object;
  responses?: Readonly<Record<string, { readonly content?: Readonly<Record<string, { schema?: Schema }>> }>>;
}

interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly [key: string]: unknown;
}

/** Media types of answers that are bytes; the others that have no schema are text. */
const bytesMedia: readonly string[] = [octets, tarMedia];

/** What an answer is that is no JSON. */
function withoutJson(media: string): Schema {
  return { type: 'string', ...(bytesMedia.includes(media) ? { format: 'binary' } : {}) };
}

/** A value of the query as what it stands for: it is text on its way, and our schemas say which. */
function parameterSchema(schema: Schema): Schema {
  const { type: _type, pattern, enum: values, ...rest } = schema;
  if (pattern === wholeNumber.source) return { type: 'integer', ...rest };
  if (values?.length === 2 && values.includes('true') && values.includes('false'))
    return { type: 'boolean', ...rest };
  return schema;
}

/** A body of any length. */
const upload = { required: true, content: { [octets]: { schema: { type: 'string', format: 'binary' } } } };

/** The end of the name that the generator gives to the form of a schema that is sent to us. */
const sent = 'Input';
const prefix = '#/components/schemas/';

/**
 * The transformation of the whole description: schemas have the names of their `meta`, those that nothing refers to are left
 * out, uploads have a body, and answers without one are told of.
 */
export function completeDocument(routes: readonly Route[]): typeof transformObject {
  const known = new Map(routes.map((route) => [route.operation, route]));
  return (given) => {
    const document = transformObject(given) as Document;
    for (const methods of Object.values(document.paths ?? {})) {
      for (const operation of Object.values(methods)) {
        const route = known.get((operation.operationId ?? '').replace(/-head$/, ''));
        if (!route) continue;
        if (route.body === 'bytes') operation.requestBody = upload;
        // No body stands for an empty object.
        else if (route.body?.safeParse({}).success)
          operation.requestBody = { ...operation.requestBody, required: false };
        for (const it of operation.parameters ?? []) it.schema = parameterSchema(it.schema);
        for (const { content = {} } of Object.values(operation.responses ?? {})) {
          for (const [media, answer] of Object.entries(content)) {
            if (Object.keys(answer.schema ?? {}).length === 0) answer.schema = withoutJson(media);
          }
        }
        const { status, body } = route.answer;
        if (body === undefined)
          operation.responses = { [status]: { description: 'Done' }, ...operation.responses };
      }
    }
    return withNames(document) as ReturnType<typeof transformObject>;
  };
}

function withNames(document: Document): Document {
  const schemas = { ...document.components?.schemas };
  const used = new Set<string>();
  const look = (part: unknown): void => {
    for (const [, name = ''] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      if (used.has(name)) continue;
      used.add(name);
      look(schemas[name] ?? {});
    }
  };
  look(document.paths ?? {});
  // A schema that is only sent to us needs no other name than its own.
  const nameOf = (name: string): string => {
    const plain = name.endsWith(sent) ? name.slice(0, -sent.length) : name;
    return used.has(plain) ? name : plain;
  };
  const named = Object.entries(schemas).filter(([name]) => used.has(name));
  const whole = {
    ...document,
    components: {
      ...document.components,
      schemas: Object.fromEntries(named.map(([name, schema]) => [nameOf(name), schema])),
    },
  };
  const text = JSON.stringify(whole).replaceAll(
    /"#\/components\/schemas\/(\w+)"/g,
    (_, name: string) => `"${prefix}${nameOf(name)}"`,
  );
  return JSON.parse(text) as Document;
}
