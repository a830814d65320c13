import { describe, expect, it } from 'vitest';
import { routes } from '../../src/server/routes/index.js';
import { serverWithoutRuntime } from './support.js';

interface Document {
  openapi: string;
  paths: Record<
    string,
    Record<string, { operationId: string; requestBody?: unknown; parameters?: unknown[] }>
  >;
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
    expect(JSON.stringify(create?.requestBody)).toContain('"memory_mib"');
    expect(JSON.stringify(create?.requestBody)).toContain('"additionalProperties":false');
  });

  it('names each operation once', () => {
    const names = routes.map((route) => route.operation);
    expect(new Set(names).size).toBe(names.length);
  });
});
