import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CryoboxError } from '../errors.js';
import { environmentValue } from './environment.js';

/** Set by {@link usePackage}. */
let chosen: string | undefined;

/** Names the directory of the installed package, for a program that was bundled away from it. */
export function usePackage(directory: string): void {
  chosen = resolve(directory);
}

/**
 * The directory of this package: what {@link usePackage} was told, else `CRYOBOX_PACKAGE`, else where this file is. Programs
 * that run as processes of their own lie in it: the guest's, the engine in the background, page servers.
 */
export function packageDirectory(): string {
  const given = chosen ?? environmentValue('CRYOBOX_PACKAGE');
  // `src/base` or `dist/base`, two below the package.
  return given === undefined ? fileURLToPath(new URL('../..', import.meta.url)) : resolve(given);
}

/** Path of a file of this package, whether or not it is there. */
export function packageFile(path: string): string {
  return join(packageDirectory(), path);
}

/** Path of a file of this package. Throws `config_error`, with what brings it back, when it is not there. */
export function neededPackageFile(path: string): string {
  const found = packageFile(path);
  if (existsSync(found)) return found;
  throw new CryoboxError('config_error', `${found} is missing`, { hint: missingFileHint() });
}

/** What brings a missing file of the package back, in the place where it is missing. */
export function missingFileHint(): string {
  const directory = packageDirectory();
  if (!isPackage(directory)) {
    return 'Set CRYOBOX_PACKAGE, or the option packageDirectory, to the directory node_modules/cryobox: this program was bundled away from it.';
  }
  if (dirname(directory).endsWith('node_modules')) return 'Install the package again: `npm install cryobox`.';
  return `Run \`npm run setup\` in ${directory}.`;
}

/** What sets the host up, wherever the package is: the command lies in the project, or was installed for all. */
export const setUpHint = 'Run `npx cryobox setup`; `npx cryobox doctor` shows what is missing.';

function isPackage(directory: string): boolean {
  try {
    const manifest: unknown = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
    return (manifest as { name?: unknown }).name === 'cryobox';
  } catch {
    return false;
  }
}
