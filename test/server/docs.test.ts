import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { routes } from '../../src/server/v1/index.js';

describe('docs/api.md', () => {
  it('lists every operation, with its scope, and no other', () => {
    const table = readFileSync('docs/api.md', 'utf8').matchAll(/^\| `([A-Z]+) (\S+)` \|.*\| (\S+) \|$/gm);
    const documented = [...table].map(([, method, path, scope]) => `${method} ${path} ${scope}`);
    const unprefixed = new Set(['/config', '/me', '/openapi.json']);
    const served = routes.map(({ method, path, root, scope }) => {
      const prefix = root || unprefixed.has(path) ? '' : '{p}';
      return `${method} ${prefix}${path.replaceAll(/:(\w+)/g, '{$1}')} ${scope}`;
    });
    expect(documented.sort()).toEqual(served.sort());
  });
});
