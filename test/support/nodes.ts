import { join } from 'node:path';
import { execa } from 'execa';
import { installedOnce, installMs, npmInstall } from './installed.js';

/** The oldest Node that brings SQLite, and the line after it. */
export const nodesWithSqlite = ['22.13.1', '24'] as const;

/** Path of the `node` of a version, such as `24` or `22.13.1`: installed from npm once, and kept. */
export async function nodeOf(version: string): Promise<string> {
  const name = `node-linux-${process.arch}`;
  const kept = await installedOnce(`nodes/${version}`, async (directory) => {
    await execa('npm', [...npmInstall, '--prefix', directory, `${name}@${version}`], { timeout: installMs });
  });
  return join(kept, 'node_modules', name, 'bin/node');
}
