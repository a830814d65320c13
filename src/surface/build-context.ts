/** What a build from a Dockerfile is sent as: one tar, made where the call is made. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildOptions, ByteSource, DockerfileBuildOptions } from '../api/index.js';
import { withBytes } from '../base/byte-source.js';
import { ignoredBy, ignoreFile } from '../base/docker-ignore.js';
import { packHostTree } from '../base/host-pack.js';
import { fromText } from '../base/tar/names.js';
import { tarEnd, tarHeader, tarPadding } from '../base/tar/writer.js';
import { CryoboxError, errnoOf, wrapHostError } from '../errors.js';

/** Where a Dockerfile that is not in the context stands in the tar; it is taken out before anything is copied. */
const ownDockerfile = '.cryobox-dockerfile';

/** A build as it is sent. */
export interface BuildTar {
  readonly tar: ByteSource;
  /** Path of the Dockerfile in the tar. */
  readonly dockerfile: string;
}

/** Whether an image is built by steps. Throws `invalid_argument` where options of both ways are given. */
export function isFromDockerfile(
  options: BuildOptions | DockerfileBuildOptions,
): options is DockerfileBuildOptions {
  const given = (names: readonly string[]): string | undefined =>
    names.find((name) => (options as Record<string, unknown>)[name] !== undefined);
  const own = given(['context', 'dockerfile', 'dockerfileText']);
  const debian = given(['fromDebian', 'packages', 'recipe']);
  const more = own ?? given(['buildArgs', 'target', 'noCache', 'cpus', 'memoryMiB']);
  if (more !== undefined && debian !== undefined) {
    throw new CryoboxError('invalid_argument', `images.build: ${more} and ${debian} do not go together`, {
      hint: 'Build from Debian packages, or by the steps of a Dockerfile.',
    });
  }
  if (own === undefined && more !== undefined) {
    throw new CryoboxError('invalid_argument', `images.build: ${more} needs a Dockerfile`, {
      hint: 'Give context, dockerfile or dockerfileText.',
    });
  }
  return own !== undefined;
}

/**
 * Runs a task with the tar of a build. `.dockerignore` of a directory is followed. Throws `not_found` for a directory or a
 * Dockerfile that is not there, `invalid_argument` for what cannot be together, what the caller's own tar fails with.
 */
export async function withBuildTar<T>(
  options: DockerfileBuildOptions,
  task: (input: BuildTar) => Promise<T>,
): Promise<T> {
  const { context, dockerfile, dockerfileText } = options;
  if (dockerfile !== undefined && dockerfileText !== undefined) {
    throw new CryoboxError(
      'invalid_argument',
      'images.build: dockerfile and dockerfileText do not go together',
    );
  }
  if (context !== undefined && typeof context !== 'string') {
    if (dockerfileText === undefined) {
      return await withBytes(context, 'context', (tar) =>
        task({ tar, dockerfile: dockerfile ?? 'Dockerfile' }),
      );
    }
    return await withBytes(context, 'context', (tar) =>
      task({ tar: together(dockerfileText, tar), dockerfile: ownDockerfile }),
    );
  }
  const text = dockerfileText ?? (await textOf(dockerfile ?? join(context ?? '.', 'Dockerfile')));
  const files = context === undefined ? empty() : await directory(context, options);
  return await task({ tar: together(text, files), dockerfile: ownDockerfile });
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw wrapHostError(
      error,
      `Reading ${path}`,
      errnoOf(error) === 'ENOENT' ? 'not_found' : 'storage_error',
    );
  }
}

async function directory(path: string, { signal }: DockerfileBuildOptions): Promise<ByteSource> {
  const facts = await stat(path).catch((error: unknown) => {
    throw wrapHostError(
      error,
      `Reading ${path}`,
      errnoOf(error) === 'ENOENT' ? 'not_found' : 'storage_error',
    );
  });
  if (!facts.isDirectory()) throw new CryoboxError('invalid_argument', `${path} is no directory`);
  const rules = await readFile(join(path, ignoreFile), 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '';
    throw wrapHostError(error, `Reading ${path}/${ignoreFile}`);
  });
  const isIgnored = ignoredBy(rules);
  // What an exception may bring back is not passed over with its directory.
  const hasExceptions = /^\s*!/m.test(rules);
  return packHostTree(path, {
    signal,
    skip: (name, isDirectory) => !(isDirectory && hasExceptions) && isIgnored(name),
  });
}

/** A Dockerfile before the files of a tar. */
async function* together(text: string, files: ByteSource): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  const name = fromText(ownDockerfile);
  yield tarHeader({
    type: 'file',
    name,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: bytes.length,
    modifiedSeconds: 0,
  });
  yield bytes;
  yield tarPadding(bytes.length);
  yield* files;
}

async function* empty(): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(tarEnd);
}
