/**
 * The page server as a process of its own: it goes on when the engine dies, because a guest that waits for a page
 * waits for ever. Configuration on standard input, events on standard output, exit 0 when the machine has all its
 * memory. SIGUSR2: write the working set, let the rest of memory follow.
 */
import { writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import type { LayerPaths } from '../formats/pages/layer-files.js';
import { pagesOf } from '../formats/pages/layer-map.js';
import { localLayers } from '../formats/pages/local-layer.js';
import { readMap } from '../formats/pages/map-file.js';
import { MemoryImage } from '../formats/pages/memory-image.js';
import { readWorkingSet, writeWorkingSet } from '../formats/pages/working-set.js';
import { MAX_DEVICE_STATE_BYTES, parseDeviceState } from '../formats/qemu-stream/device-state.js';
import { type PageAddress, PostcopySource, type PostcopyStats } from '../formats/qemu-stream/postcopy.js';
import {
  MAX_CONFIG_BYTES,
  type PageServerConfig,
  type PageServerEvent,
  parsePageServerConfig,
} from './page-server-config.js';

/** How often progress is written. */
const progressMs = 1000;
/**
 * Groups of pages up to which an earlier working set is kept beside what was needed this time, 32 MiB of them: each is sent
 * before the guest runs, at about 1 ms a MiB, whether it is still needed or not.
 */
const maxRecorded = 2048;

/** Writes an event at once; a reader that has gone does not end a machine's supply. */
function say(event: PageServerEvent): void {
  try {
    writeSync(1, `${JSON.stringify(event)}\n`);
  } catch {
    // Nobody listens any more: the engine that comes back looks at the process itself.
  }
}

async function readConfig(): Promise<PageServerConfig> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_CONFIG_BYTES)
      throw new CryoboxError('invalid_argument', `page server configuration: over ${MAX_CONFIG_BYTES} bytes`);
    chunks.push(chunk);
  }
  return parsePageServerConfig(Buffer.concat(chunks).toString('utf8'));
}

async function readDeviceState(path: string): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    if (size > MAX_DEVICE_STATE_BYTES) throw new CryoboxError('integrity', `device state: ${size} bytes`);
    return parseDeviceState(await handle.readFile());
  } finally {
    await handle.close();
  }
}

async function prefetchOf(config: PageServerConfig, image: MemoryImage): Promise<PageAddress[]> {
  if (config.workingSetPath === undefined) return [];
  try {
    return (await readWorkingSet(config.workingSetPath, image.blocks.map(pagesOf))) ?? [];
  } catch (error) {
    say({ event: 'warning', message: messageOf(error) });
    return [];
  }
}

/** Obeys SIGUSR2 and reports progress until the returned function is called. */
function attend(
  source: PostcopySource,
  recordPath: string | undefined,
  known: readonly PageAddress[],
): () => void {
  const record = async (asked: PageAddress[], stats: PostcopyStats): Promise<void> => {
    // What was sent without being asked for stays known, as long as there is room.
    const pages = [...asked, ...known.slice(0, Math.max(0, maxRecorded - asked.length))];
    if (recordPath !== undefined) await writeWorkingSet(recordPath, pages);
    say({ event: 'recorded', pages: pages.length, stats });
  };
  process.on('SIGUSR2', () => {
    record([...source.faultOrder], source.stats).catch((error: unknown) =>
      say({ event: 'warning', message: messageOf(error) }),
    );
    source.startBackground();
  });
  let lastBytes = 0;
  const timer = setInterval(() => {
    const { stats } = source;
    if (stats.sentBytes === lastBytes) return;
    lastBytes = stats.sentBytes;
    say({ event: 'progress', stats });
  }, progressMs);
  return () => clearInterval(timer);
}

async function main(): Promise<void> {
  const startedAt = performance.now();
  const config = await readConfig();
  const pathsOf = (layerId: string): LayerPaths => {
    const paths = config.layers[layerId];
    if (paths === undefined) throw new CryoboxError('not_found', `memory layer ${layerId}: no files given`);
    return paths;
  };
  const map = await readMap(pathsOf(config.layerId).map, config.layerId);
  const image = await MemoryImage.open(map, localLayers(pathsOf, { synchronous: true }));
  const prefetch = await prefetchOf(config, image);
  const deviceSections = await readDeviceState(config.deviceStatePath);
  const source = new PostcopySource({
    socket: await connectUnix(config.socketPath),
    machineType: config.machineType,
    source: image,
    deviceSections,
    prefetch,
    clusterPages: config.clusterPages,
    backgroundDelayMs: config.backgroundDelayMs,
    backgroundBytesPerSecond: config.backgroundBytesPerSecond,
    onRunning: () => say({ event: 'running', elapsedMs: performance.now() - startedAt }),
  });
  const leave = attend(source, config.recordPath, prefetch);
  try {
    say({ event: 'done', stats: await source.run() });
  } finally {
    leave();
    await image.close();
  }
}

try {
  await main();
} catch (error) {
  const code = isCryoboxError(error) ? error.code : 'internal';
  say({ event: 'failed', code, message: messageOf(error) });
  process.exitCode = 1;
}
