import dockerignore from '@balena/dockerignore';
import { toText } from './tar/names.js';

/** The file of a context that names what is left out of it. */
export const ignoreFile = '.dockerignore';

// The package is CommonJS whose types say that it has a default export.
const make = ((dockerignore as unknown as { default?: unknown }).default ??
  dockerignore) as typeof dockerignore.default;

/** Whether the rules of a `.dockerignore` leave a path out: a binary string, without a slash at its ends. */
export function ignoredBy(rules: string): (path: string) => boolean {
  const rule = make().add(rules);
  return (path) => path !== ignoreFile && rule.ignores(toText(path));
}
