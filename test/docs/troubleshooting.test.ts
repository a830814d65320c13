import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { catalogue } from '../../src/errors.js';

it('docs/troubleshooting.md has every error code, with its status and its hint, and no other', () => {
  const table = readFileSync('docs/troubleshooting.md', 'utf8').matchAll(
    /^\| `(\w+)` \| (\d+) \| (.+) \| (.+) \|$/gm,
  );
  const documented = [...table].map(([, code, status, , hint]) => [code, Number(status), hint]);
  const known = Object.entries(catalogue).map(([code, { status, hint }]) => [code, status, hint]);
  expect(documented).toEqual(known);
});
