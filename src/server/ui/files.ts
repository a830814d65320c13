import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { neededPackageFile } from '../../base/package-files.js';

/** One file of the dashboard, kept in memory: all of them are some hundred kilobytes. */
export interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly zipped: Buffer;
}

/** Kinds of files that the build makes. */
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const compress = promisify(gzip);

async function load(path: string): Promise<PageFile> {
  const plain = await readFile(path);
  return { type: types[extname(path)] ?? 'application/octet-stream', plain, zipped: await compress(plain) };
}

/** The files of the dashboard. */
export interface Pages {
  readonly index: PageFile;
  /** By name. */
  readonly assets: ReadonlyMap<string, PageFile>;
}

/** Reads the files of the dashboard. Throws `config_error` when it was not built. */
export async function loadPages(): Promise<Pages> {
  const index = neededPackageFile('dist/ui/index.html');
  const directory = join(index, '..', 'assets');
  const names = await readdir(directory);
  const files = await Promise.all(
    names.map(async (name) => [name, await load(join(directory, name))] as const),
  );
  return { index: await load(index), assets: new Map(files) };
}
