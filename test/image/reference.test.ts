import { describe, expect, test } from 'vitest';
import { formatReference, parseReference, shortReference } from '../../src/formats/oci/reference.js';

const id = `sha256:${'0a'.repeat(32)}`;

describe('references', () => {
  test.each([
    ['alpine', 'docker.io/library/alpine:latest', 'alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20', 'alpine:3.20'],
    ['owner/name', 'docker.io/owner/name:latest', 'owner/name:latest'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest', 'alpine:latest'],
    ['index.docker.io/library/alpine', 'docker.io/library/alpine:latest', 'alpine:latest'],
    ['host:5000/a/b:tag', 'host:5000/a/b:tag', 'host:5000/a/b:tag'],
    ['localhost/a', 'localhost/a:latest', 'localhost/a:latest'],
    ['127.0.0.1:5000/a', '127.0.0.1:5000/a:latest', '127.0.0.1:5000/a:latest'],
    ['[::1]:5000/a', '[::1]:5000/a:latest', '[::1]:5000/a:latest'],
    [
      'registry.example/a__b/c.d-e',
      'registry.example/a__b/c.d-e:latest',
      'registry.example/a__b/c.d-e:latest',
    ],
    [`alpine@${id}`, `docker.io/library/alpine@${id}`, `alpine@${id}`],
    [`alpine:1@${id}`, `docker.io/library/alpine:1@${id}`, `alpine:1@${id}`],
  ])('%s', (text, full, short) => {
    const reference = parseReference(text);
    expect(formatReference(reference)).toBe(full);
    expect(shortReference(reference)).toBe(short);
    expect(parseReference(short)).toEqual(reference);
  });

  test.each([
    '',
    'Alpine',
    'a//b',
    '/a',
    'a/',
    'a:',
    'a:b:c',
    'a@sha256:12',
    `a@md5:${'0'.repeat(32)}`,
    '-a',
    'a b',
    'a/../b',
    'host:port/a',
    'a:t\nx',
    '.a/b/c',
    `a:${'t'.repeat(129)}`,
    'a'.repeat(300),
    'a'.repeat(600),
    'a/ü',
  ])('%j is refused', (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  });
});
