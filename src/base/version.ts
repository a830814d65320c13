import { readFileSync } from 'node:fs';
import { packageFile } from './package-files.js';

/** The version of this package; `0.0.0` where its package.json does not lie beside it, as in a bundled program. */
export function packageVersion(): string {
  try {
    const manifest: unknown = JSON.parse(readFileSync(packageFile('package.json'), 'utf8'));
    const version = (manifest as { version?: unknown }).version;
    return typeof version === 'string' ? version : unknownVersion;
  } catch {
    return unknownVersion;
  }
}

const unknownVersion = '0.0.0';

/** Whether a version such as `1.2.3` came out before another. What follows the three numbers does not count. */
export function isOlderVersion(version: string, than: string): boolean {
  const [left, right] = [numbersOf(version), numbersOf(than)];
  const at = left.findIndex((number, index) => number !== right[index]);
  return at >= 0 && (left[at] ?? 0) < (right[at] ?? 0);
}

function numbersOf(version: string): number[] {
  const match = /^(\d+)\.(\d+)\.(\d+)/.exec(version);
  return match ? match.slice(1).map(Number) : [0, 0, 0];
}
