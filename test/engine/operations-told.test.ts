import { context, trace } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Logger } from '../../src/base/log.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { failureOf } from './support.js';

type Line = Readonly<Record<string, unknown>> & { readonly level: string };

const exporter = new InMemorySpanExporter();
const lines: Line[] = [];
const note =
  (level: string) =>
  (message: string, facts: Record<string, unknown> = {}): void => {
    if (message === 'operation') lines.push({ level, ...facts });
  };
const logger: Logger = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };

let home: TestHome;
let engine: Engine;

beforeAll(async () => {
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 0, logger });
});

afterAll(async () => {
  trace.disable();
  context.disable();
  await engine.close();
  await home[Symbol.asyncDispose]();
});

const told = (operation: string): Line[] => lines.filter((line) => line.operation === operation);
const spans = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name);

it('tells each operation once when it has ended, with its box, its tenant, its time and how it ended', async () => {
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  const about = { tenant: '', box: box.id, ms: expect.any(Number) };
  expect(told('runtime.create')).toEqual([
    { level: 'info', operation: 'runtime.create', ...about, outcome: 'ok' },
  ]);
  await box.exec(['echo', 'hello']);
  expect(told('box.exec')).toMatchObject([{ ...about, outcome: 'ok', bytes: 6 }]);

  expect((await failureOf(box.files.read('/nothing'))).code).toBe('not_found');
  expect(told('files.read')).toMatchObject([{ level: 'debug', ...about, outcome: 'not_found' }]);

  await box.files.write('/root/file', Buffer.alloc(300_000));
  let bytes = 0;
  for await (const chunk of await box.files.readStream('/root/file')) {
    bytes += chunk.length;
    expect(told('files.readStream')).toEqual([]);
  }
  expect(bytes).toBe(300_000);
  expect(told('files.readStream')).toMatchObject([{ ...about, outcome: 'ok', bytes: 300_000 }]);

  const left = (await box.files.readStream('/root/file'))[Symbol.asyncIterator]();
  await left.return?.();
  expect(told('files.readStream')).toHaveLength(2);

  const again = await runtime.get(box.id);
  await again?.stop();
  expect(told('box.stop')).toMatchObject([about]);
});

it('gives a span for each operation and for each stage of a start', async () => {
  exporter.reset();
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  await failureOf(box.snapshot.restore('none'));
  expect(spans('runtime.create')).toMatchObject([
    { attributes: { 'cryobox.box': box.id, 'cryobox.outcome': 'ok' } },
  ]);
  expect(spans('snapshot.restore')).toMatchObject([{ attributes: { 'cryobox.outcome': 'invalid_state' } }]);
  expect(spans('stage total').length).toBe(1);
  expect(spans('stage configure').length).toBe(1);
});
