import { expect, it } from 'vitest';
import { previewBase } from '../../src/home/preview-base.js';

const server = 'http://127.0.0.1:8100';

it.each([
  [server, undefined, 'http://localhost:8100/'],
  ['https://[::1]:8443', undefined, 'https://localhost:8443/'],
  [server, 'previews.example', 'http://previews.example:8100/'],
  [server, 'Previews.Example:80', 'http://previews.example/'],
  [server, 'https://previews.example', 'https://previews.example/'],
  [server, 'https://previews.example:8443/', 'https://previews.example:8443/'],
  ['http://0.0.0.0', 'previews.example', 'http://previews.example/'],
])('finds previews of %s below %s at %s', (url, domain, base) => {
  expect(previewBase(url, domain)?.href).toBe(base);
});

it('finds none of a unix socket', () => {
  expect(previewBase('unix:/run/engine.sock')).toBeUndefined();
});

it.each(['', '127.0.0.1', '[::1]:80', 'a b', 'user@previews.example', 'previews.example/path', 'http://'])(
  'refuses %j as a domain',
  (domain) => {
    expect(() => previewBase(server, domain)).toThrow('cannot be the domain of previews');
  },
);
