import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execa } from 'execa';
import { installedOnce, installMs, npmInstall } from './installed.js';

/** What the npm client of BoxLite exports. */
export type NpmClient = typeof import('@boxlite-ai/boxlite');

const name = '@boxlite-ai/boxlite';
const nativeName = `${name}-linux-x64-gnu`;

/** The npm client of BoxLite, unmodified, in one version with one version of its native part. Installed once, then kept. */
export async function npmClient(version: string, native: string): Promise<NpmClient> {
  const directory = await installedOnce(`npm/boxlite-${version}-native-${native}`, async (partial) => {
    const manifest = {
      private: true,
      dependencies: { [name]: version },
      overrides: { [nativeName]: native },
    };
    await writeFile(join(partial, 'package.json'), JSON.stringify(manifest));
    await execa('npm', [...npmInstall, '--no-package-lock'], { cwd: partial, timeout: installMs });
  });
  const from = createRequire(join(directory, 'package.json'));
  return (await import(pathToFileURL(from.resolve(name)).href)) as NpmClient;
}
