import { CryoboxError } from '../errors.js';
import type { LayerPaths } from '../formats/pages/layer-files.js';
import type { PostcopyStats, PostcopyTuning } from '../formats/qemu-stream/postcopy.js';

/** What a page server process is told, as JSON on its standard input. */
export interface PageServerConfig extends PostcopyTuning {
  /** The unix socket QEMU waits on (`migrate-incoming`), with capability `postcopy-ram`. */
  readonly socketPath: string;
  /** Such as `pc-q35-7.2`. */
  readonly machineType: string;
  /** The layer to supply, and the files of it and of every layer it refers to. */
  readonly layerId: string;
  readonly layers: Readonly<Record<string, LayerPaths>>;
  /** A device state file (QMP `xen-save-devices-state`, or encodeDeviceState()). */
  readonly deviceStatePath: string;
  /** A recorded working set to send first; done without where it is missing or damaged. */
  readonly workingSetPath?: string;
  /** Where SIGUSR2 writes the pages asked for so far. */
  readonly recordPath?: string;
}

/** What a page server says, one JSON object a line on its standard output. */
export type PageServerEvent =
  /** The guest can run. */
  | { readonly event: 'running'; readonly elapsedMs: number }
  /** Each second in which something was sent. */
  | { readonly event: 'progress'; readonly stats: PostcopyStats }
  /** SIGUSR2 was obeyed: the working set is written, the rest of memory follows. */
  | { readonly event: 'recorded'; readonly pages: number; readonly stats: PostcopyStats }
  /** Something that does not end it, such as a damaged working set. */
  | { readonly event: 'warning'; readonly message: string }
  /** The machine has all its memory; the process exits with 0. */
  | { readonly event: 'done'; readonly stats: PostcopyStats }
  /** The process exits with 1; the machine, if it still lives, waits for memory for ever. */
  | { readonly event: 'failed'; readonly code: string; readonly message: string };

/** Longest configuration: paths of at most a few layers. */
export const MAX_CONFIG_BYTES = 1024 * 1024;

/** Reads a configuration. The engine is the only one who writes it. @throws invalid_argument. */
export function parsePageServerConfig(text: string): PageServerConfig {
  const wrong = (what: string): CryoboxError =>
    new CryoboxError('invalid_argument', `page server configuration: ${what}`);
  let value: Partial<PageServerConfig>;
  try {
    value = JSON.parse(text) as Partial<PageServerConfig>;
  } catch (error) {
    throw new CryoboxError('invalid_argument', 'page server configuration: expected JSON', { cause: error });
  }
  for (const key of ['socketPath', 'machineType', 'layerId', 'deviceStatePath'] as const)
    if (typeof value[key] !== 'string') throw wrong(`expected a string ${key}`);
  if (typeof value.layers !== 'object' || value.layers === null) throw wrong('expected layers');
  return value as PageServerConfig;
}
