import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type {
  BuildOptions,
  CallOptions,
  DockerfileBuildOptions,
  ImageInfo,
  Images,
  ImportImageOptions,
  ProgressOptions,
  PullOptions,
  PullResult,
  RegistryOptions,
  RemoveImageOptions,
} from '../api/index.js';
import { CryoboxError, messageOf } from '../errors.js';
import { isFromDockerfile, withBuildTar } from '../surface/build-context.js';
import { importEnvText } from '../surface/import-env.js';
import { imageFromJson, pullResultFromJson, registryToJson } from '../wire/image.js';
import { asObject, asObjects, compact, texts } from '../wire/json.js';
import { buildArgsHeader, tarMedia } from '../wire/media.js';
import { orNull } from './executions.js';
import { type Ask, segment, type Transport } from './transport.js';

/** Sends a long operation, with its progress when somebody listens. */
export async function withProgress(
  transport: Transport,
  ask: Ask,
  options: ProgressOptions,
): Promise<unknown> {
  const asked = { ...ask, signal: options.signal };
  if (!options.onProgress) return transport.json(asked);
  return await transport.result(asked, options.onProgress);
}

/** Images of a runtime behind a server. */
export class RemoteImages implements Images {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async pull(reference: string, options: PullOptions = {}): Promise<PullResult> {
    const json = compact({
      reference,
      platform: options.platform,
      pull_policy: options.pullPolicy,
      registry: options.registry && registryToJson(await withCertificates(options.registry)),
    });
    return this.#arrive('/images/pull', json, options);
  }

  import(path: string, options: ImportImageOptions = {}): Promise<PullResult> {
    const { reference, platform } = options;
    const json = compact({ path: resolve(path), reference, platform });
    return this.#arrive('/images/import', json, options);
  }

  async build(name: string, options: BuildOptions | DockerfileBuildOptions): Promise<PullResult> {
    if (isFromDockerfile(options)) return await this.#buildSteps(name, options);
    const json = compact({
      name,
      from_debian: options.fromDebian,
      packages: options.packages,
      recipe: options.recipe,
    });
    return this.#arrive('/images/build', json, options);
  }

  async list({ signal }: CallOptions = {}): Promise<ImageInfo[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: '/images', signal }));
    return asObjects(answer['images'], 'images').map(imageFromJson);
  }

  async get(reference: string, { signal }: CallOptions = {}): Promise<ImageInfo | null> {
    const path = `/images/${segment(reference)}`;
    const found = await orNull(this.#transport.json({ method: 'GET', path, signal }));
    return found === null ? null : imageFromJson(found);
  }

  async named(name: string, { signal }: CallOptions = {}): Promise<ImageInfo[]> {
    const asked = { method: 'GET', path: '/images', query: { name }, signal } as const;
    return asObjects(asObject(await this.#transport.json(asked))['images'], 'images').map(imageFromJson);
  }

  async alias(name: string, tag: string, digest: string, { signal }: CallOptions = {}): Promise<ImageInfo> {
    const path = `/images/${segment(name)}/aliases`;
    const json = { alias: tag, digest };
    return imageFromJson(await this.#transport.json({ method: 'POST', path, json, signal }));
  }

  async remove(reference: string, options: RemoveImageOptions = {}): Promise<void> {
    const { force, allTags = false, signal } = options;
    const path = `/images/${segment(reference)}`;
    await this.#transport.empty({ method: 'DELETE', path, query: { force, all_tags: allTags }, signal });
  }

  async prune({ signal }: CallOptions = {}): Promise<string[]> {
    const answer = await this.#transport.json({ method: 'POST', path: '/images/prune', signal });
    return texts(asObject(answer), 'removed');
  }

  async #buildSteps(name: string, options: DockerfileBuildOptions): Promise<PullResult> {
    const { buildArgs, target, noCache, cpus, memoryMiB } = options;
    return await withBuildTar(options, async ({ tar, dockerfile }) => {
      const ask = {
        method: 'POST',
        path: '/images/build/dockerfile',
        query: { name, dockerfile, target, no_cache: noCache, cpus, memory_mib: memoryMiB },
        ...(buildArgs && { headers: { [buildArgsHeader]: importEnvText(buildArgs, 'buildArgs') } }),
        upload: tar,
        uploadType: tarMedia,
      } as const;
      return pullResultFromJson(await withProgress(this.#transport, ask, options));
    });
  }

  async #arrive(path: string, json: unknown, options: ProgressOptions): Promise<PullResult> {
    return pullResultFromJson(await withProgress(this.#transport, { method: 'POST', path, json }, options));
  }
}

/** Certificates lie in a file of this host, which the engine's host may not have. */
async function withCertificates({ caFile, ...registry }: RegistryOptions): Promise<RegistryOptions> {
  if (caFile === undefined) return registry;
  try {
    const pem = await readFile(caFile, 'utf8');
    return { ...registry, ca: registry.ca === undefined ? pem : `${registry.ca}\n${pem}` };
  } catch (error) {
    const text = `cannot read the certificate authorities in ${caFile}: ${messageOf(error)}`;
    throw new CryoboxError('config_error', text, { cause: error });
  }
}
