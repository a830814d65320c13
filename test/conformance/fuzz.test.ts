import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isCryoboxError } from '../../src/errors.js';
import { TestRegistry } from '../image/support/registry.js';
import { type JsonSchema, type Known, now, valuesOf, withoutReferences } from './schema-arbitrary.js';
import { Stage } from './support.js';

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema: JsonSchema;
}

/** One operation of the server's own description. */
interface Operation {
  readonly method: string;
  readonly path: string;
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: JsonSchema }>> };
  readonly responses: Readonly<Record<string, unknown>>;
}

/** Requests of each operation. */
const requestsEach = Number(process.env.CRYOBOX_FUZZ || 8);

/** Streams that end when the client has gone, however they are asked for. */
const endless = ['streamEvents', 'watchFiles'];

/** Replaced in a request by the name of a registry where there is nothing. */
const nowhere = 'registry.invalid';
const bad = ['UPPER', 'a b', '', '../x', 'x@sha256:0', `${nowhere}/none:1`] as const;
const path = fc.constantFrom(
  '/root/x',
  '/root',
  '/tmp/y/z',
  '/no/such',
  'relative',
  '/etc/passwd',
  '/root/\0',
);
/** What would build, boot or fork more than a test may. */
const known: Known = {
  image: fc.constantFrom('tiny', 'tiny', 'tiny', ...bad),
  reference: fc.constantFrom(...bad),
  count: fc.constantFrom(0, 1, 2, 101, 1.5),
  cpus: fc.constantFrom(0, 1, 33, '1'),
  memory_mib: fc.constantFrom(127, 512, 65_537),
  disk_size_gb: fc.constantFrom(0, 10, 1025),
  size_gb: fc.constantFrom(0, 1, 1025),
  size_bytes: fc.constantFrom(0, 1),
  timeout_seconds: fc.constantFrom(0, 0.1, -1, 1e9),
  quiesce_timeout_secs: fc.constantFrom(0, 5, -1),
  from_debian: fc.constantFrom('', 'no such suite', '../x', '-x'),
  command: fc.constantFrom('true', 'cat', 'no-such', '', '/etc/passwd', '\0'),
  mirrors: fc.constantFrom([], ['no url'], [1]),
  path,
  from: path,
  to: path,
  auto_stop: fc.constantFrom(0, 600, -1),
  auto_delete: fc.constantFrom(0, 1200, -1),
};

let stage: Stage;
let host: string;
let registry: TestRegistry;
let operations: readonly Operation[];
const key = { authorization: 'Bearer owner' };

beforeAll(async () => {
  host = await mkdtemp(join(tmpdir(), 'cryobox-fuzz-'));
  registry = await TestRegistry.start({ directory: join(host, 'registry') });
  stage = await Stage.open();
  const document = withoutReferences(await (await fetch(`${stage.keyedUrl}/v1/openapi.json`)).json()) as {
    paths: Record<string, Record<string, Omit<Operation, 'method' | 'path'>>>;
  };
  operations = Object.entries(document.paths).flatMap(([at, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ ...operation, method, path: at })),
  );
});

afterAll(async () => {
  await stage.close();
  await registry[Symbol.asyncDispose]();
  await rm(host, { recursive: true, force: true });
});

/** There is always a box, a snapshot of it and a template to hit. */
async function prepare(): Promise<void> {
  const runtime = stage.engine.runtime();
  const { box } = await runtime.getOrCreate('main', { image: 'tiny', detach: true });
  if ((await box.info()).status !== 'running') {
    await box.resume().catch(() => box.start({ discardMemory: true }));
  }
  if (!(await box.snapshot.get('s'))) await box.snapshot.create('s');
  for (const { id, name } of await runtime.list()) {
    if (name !== 'main') await runtime.remove(id, { force: true });
  }
}

/** What there is, by the name of the path's parameter. */
const there: Readonly<Record<string, readonly string[]>> = {
  id: ['main'],
  name: ['s', 'none'],
  port: ['80'],
  reference: ['tiny'],
};

interface Sent {
  readonly url: string;
  readonly body: string | undefined;
  readonly type: string;
}

function requestOf(operation: Operation): fc.Arbitrary<Sent> {
  const parameters = operation.parameters ?? [];
  const inPath = parameters.filter((each) => each.in === 'path');
  const names = (parameter: string): fc.Arbitrary<string> =>
    fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...(there[parameter] ?? ['x'])) },
      { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 300 }) },
      { weight: 1, arbitrary: fc.constantFrom('..', '.', '%', 'a/b', '?x=1', '#', '\0', 'é') },
    );
  const at = fc.record(Object.fromEntries(inPath.map(({ name }) => [name, names(name)])));
  const query = fc.record(
    Object.fromEntries(
      parameters
        .filter((each) => each.in === 'query')
        .map(({ name, schema, required }) => {
          const value = valuesOf(schema, known, name);
          return [name, required ? value : now(value)];
        }),
    ),
  );
  const schema = operation.requestBody?.content['application/json']?.schema;
  const body = schema
    ? fc.oneof(
        { weight: 5, arbitrary: valuesOf(schema, known).map((value) => JSON.stringify(value)) },
        fc.string(),
      )
    : fc.option(fc.string(), { nil: undefined });
  const type = fc.constantFrom('application/json', 'application/json', 'application/x-tar', 'text/plain');
  return fc.record({ at, query, body, type }).map((made) => {
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(made.query))
      if (value !== undefined) asked.set(name, typeof value === 'string' ? value : JSON.stringify(value));
    const url = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
      encodeURIComponent(String(made.at[name])),
    );
    return { url: `${url}?${asked}`, body: made.body, type: schema ? 'application/json' : made.type };
  });
}

async function send(operation: Operation, sent: Sent): Promise<{ status: number; text: string }> {
  const stop = new AbortController();
  const bodiless = ['get', 'head'].includes(operation.method) || sent.body === undefined;
  const response = await fetch(stage.keyedUrl + sent.url, {
    method: operation.method.toUpperCase(),
    headers: { ...key, ...(bodiless ? {} : { 'content-type': sent.type }) },
    body: bodiless ? undefined : sent.body?.replaceAll(nowhere, registry.name),
    signal: stop.signal,
  });
  if (response.ok && endless.includes(operation.operationId)) {
    stop.abort();
    return { status: response.status, text: '' };
  }
  return { status: response.status, text: await response.text() };
}

it('answers any request of any operation with 2xx or 4xx', { timeout: 600_000 }, async () => {
  expect(operations.length).toBeGreaterThan(50);
  const seen = new Map<string, Set<number>>();
  const wrong: unknown[] = [];
  for (const operation of operations) {
    await fc.assert(
      fc.asyncProperty(requestOf(operation), async (sent) => {
        await prepare();
        const { status, text } = await send(operation, sent);
        const statuses = seen.get(operation.operationId) ?? new Set();
        seen.set(operation.operationId, statuses.add(status));
        if (status >= 200 && status < 500 && Math.floor(status / 100) !== 3) return;
        wrong.push([operation.operationId, sent.url, sent.body, status, text.slice(0, 400)]);
      }),
      { numRuns: requestsEach, endOnFailure: true },
    );
  }
  expect(wrong).toEqual([]);
  expect(seen.size).toBe(operations.length);
  // A fuzzer whose requests are all refused proves little.
  const reached = [...seen].filter(([, statuses]) => [...statuses].some((status) => status < 300));
  expect(reached.length).toBeGreaterThan(operations.length / 2);
  await prepare();
  const box = await stage.engine.runtime().get('main');
  expect((await box?.exec(['true']))?.exitCode).toBe(0);
  expect(await stage.engine.runtime().verify().catch(isCryoboxError)).toMatchObject({ ok: true });
});
