import { describe, expect, it } from 'vitest';
import { routes } from '../../src/server/v1/index.js';
import { serverWithoutRuntime } from './support.js';

interface Document {
  openapi: string;
  paths: Record<
    string,
    Record<
      string,
      {
        operationId: string;
        requestBody?: unknown;
        parameters?: unknown[];
        responses: Record<string, { content?: Record<string, { schema: unknown }> }>;
      }
    >
  >;
  components: { schemas: Record<string, { additionalProperties?: unknown }> };
}

describe('/v1/openapi.json', () => {
  it('describes every operation once, from the schemas that check it', async () => {
    const { url } = await serverWithoutRuntime();
    const document = (await (await fetch(`${url}/v1/openapi.json`)).json()) as Document;
    expect(document.openapi).toBe('3.1.0');
    for (const route of routes) {
      const path = (route.root ? '' : '/v1') + route.path.replaceAll(/:(\w+)/g, '{$1}');
      expect([path, document.paths[path]?.[route.method.toLowerCase()]?.operationId]).toEqual([
        path,
        // The generator marks HEAD operations, whose path and parameters are those of a GET.
        route.method === 'HEAD' ? `${route.operation}-head` : route.operation,
      ]);
    }
    const create = document.paths['/v1/boxes']?.['post'];
    expect(JSON.stringify(create?.requestBody)).toContain('#/components/schemas/CreateBoxRequest');
    const { CreateBoxRequest } = document.components.schemas;
    expect(JSON.stringify(CreateBoxRequest)).toContain('"memory_mib"');
    expect(CreateBoxRequest?.additionalProperties).toBe(false);
  });

  it('names its schemas, refers to what there is, and tells of every success and every body', async () => {
    const { url } = await serverWithoutRuntime();
    const document = (await (await fetch(`${url}/v1/openapi.json`)).json()) as Document;
    const names = Object.keys(document.components.schemas);
    expect(names).toEqual(expect.arrayContaining(['Box', 'ErrorAnswer', 'ExecRequest', 'ExecutionResult']));
    const references = JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g);
    expect([...new Set([...references].map(([, name]) => name))].toSorted()).toEqual(names.toSorted());
    const refusing = routes.filter(({ answer }) => answer.status >= 400);
    const unsupported = new Set(refusing.map(({ operation }) => operation));
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const { operationId, responses } of Object.values(methods)) {
        if (unsupported.has(operationId)) continue;
        const good = Object.keys(responses).filter((status) => /^[12]\d\d$/.test(status));
        expect([path, operationId, good.length > 0]).toEqual([path, operationId, true]);
      }
    }
    for (const { path, method, root, body } of routes.filter((route) => route.body === 'bytes')) {
      const at = (root ? '' : '/v1') + path.replaceAll(/:(\w+)/g, '{$1}');
      expect([at, body, document.paths[at]?.[method.toLowerCase()]?.requestBody]).toEqual([
        at,
        'bytes',
        expect.objectContaining({ required: true }),
      ]);
    }
    const exec = document.paths['/v1/boxes/{id}/exec']?.['post']?.responses ?? {};
    expect(Object.keys(exec)).toEqual(expect.arrayContaining(['200', '201']));
    const logs = document.paths['/v1/boxes/{id}/executions/{eid}/logs']?.['get']?.responses['200']?.content;
    expect(Object.keys(logs ?? {})).toEqual(['application/x-ndjson', 'text/event-stream']);
  });

  it('names each operation once', () => {
    const names = routes.map((route) => route.operation);
    expect(new Set(names).size).toBe(names.length);
  });
});
