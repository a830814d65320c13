import { mkdir } from 'node:fs/promises';
import { CryoboxError, wrapHostError } from '../errors.js';
import { hostPlatform } from '../formats/oci/platform.js';
import { type DebianRoot, debootstrap } from './debian-root.js';
import type { Image } from './image.js';
import { putImage, putLayer } from './layered.js';
import type { BlobStore } from './store.js';

/** Options of {@link buildDebianImage}. */
export interface BuildDebianImageOptions extends DebianRoot {
  readonly store: BlobStore;
  /** Where the root is put together when run by root; emptied again. */
  readonly scratchDirectory: string;
  /** Environment of every command, beside `PATH`. @default none */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Called with each line of what is under way. */
  readonly onProgress?: (message: string) => void;
}

const secondsOfDay = 86_400;
/** Where programs are, as Debian's root has it. */
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Makes an image of one layer from Debian packages and stores it. The same packages on the same day (or for the same
 * `SOURCE_DATE_EPOCH`) give the same layer.
 *
 * Throws `config_error` without mmdebstrap, `invalid_argument` for names that cannot be packages or do not exist,
 * `image_pull_failed` when the packages cannot be had, `disk_full`, `cancelled`.
 */
export async function buildDebianImage(options: BuildDebianImageOptions): Promise<Image> {
  const { store, signal } = options;
  const epochSeconds = options.epochSeconds ?? defaultEpoch();
  await mkdir(options.scratchDirectory, { recursive: true, mode: 0o755 });
  try {
    const layer = await putLayer(store, debootstrap({ ...options, epochSeconds }), signal);
    return await putImage(store, {
      layers: [layer],
      platform: hostPlatform(),
      createdAt: new Date(epochSeconds * 1000).toISOString(),
      config: {
        env: { PATH: path, ...options.env },
        cmd: ['/bin/sh'],
        workingDir: '/',
        user: '',
        entrypoint: [],
        labels: {},
        exposedPorts: [],
        volumes: [],
        stopSignal: undefined,
      },
    });
  } catch (error) {
    if (signal?.aborted)
      throw new CryoboxError('cancelled', 'building the image was cancelled', { cause: error });
    throw wrapHostError(error, 'cannot build the image', 'image_pull_failed');
  }
}

/** The environment's (reproducible-builds.org, SOURCE_DATE_EPOCH), else the begin of today. */
function defaultEpoch(): number {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^[0-9]{1,11}$/.test(given)) return Number(given);
  const now = Math.floor(Date.now() / 1000);
  return now - (now % secondsOfDay);
}
