import { stat } from 'node:fs/promises';
import type { ProgressOptions, VerifyResult } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { ifExists } from '../../base/files.js';
import { messageOf } from '../../errors.js';
import { readMap, verifyLayer } from '../../formats/pages/index.js';
import { checkImage, readHeader } from '../../formats/qcow2/index.js';
import {
  allHolds,
  allLayers,
  childOf,
  findBoxWithHead,
  findLayer,
  type LayerRow,
  layerNeeds,
  setHash,
} from '../../store/index.js';
import type { EngineContext } from './context.js';

type Problem = VerifyResult['problems'][number];

/**
 * Checks the database against the files: every layer is there, is what its row says and stands on what its row names;
 * disk images are sound; sealed layers have the hash they had when they were first hashed. A layer without a hash gets
 * one. Throws `cancelled`.
 */
export async function verifyHome(ctx: EngineContext, options: ProgressOptions): Promise<VerifyResult> {
  const rows = await allLayers(ctx.db);
  const problems: Problem[] = [];
  const sealed = rows.filter(({ state }) => state === 'sealed');
  const totalBytes = sealed.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  let doneBytes = 0;
  for (const row of rows) {
    throwIfCancelled(options.signal, 'the verification');
    const onBytes = (bytes: number): void => {
      doneBytes += bytes;
      options.onProgress?.({ stage: 'verify', item: row.id, doneBytes, totalBytes });
    };
    for (const problem of await layerProblems(ctx, row, { signal: options.signal, onBytes })) {
      // Meanwhile it may have been removed, flattened or sealed: only what is still so is a problem.
      const now = await findLayer(ctx.db, row.id);
      if (now && now.parent_id === row.parent_id && now.state === row.state) {
        problems.push({ what: row.id, problem });
      }
    }
  }
  problems.push(...(await referenceProblems(ctx)));
  return { ok: problems.length === 0, checkedLayers: rows.length, problems };
}

interface CheckOptions {
  readonly signal?: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

async function layerProblems(ctx: EngineContext, row: LayerRow, options: CheckOptions): Promise<string[]> {
  const path = ctx.layers.path(row.id);
  const facts = await ifExists(stat(path));
  if (!facts) return ['its file is missing'];
  const problems: string[] = [];
  try {
    if (row.kind === 'qcow2') problems.push(...(await imageProblems(ctx, row)));
    if (row.kind === 'raw' && facts.size !== row.virtual_bytes) {
      problems.push(`its file has ${facts.size} bytes, expected ${row.virtual_bytes}`);
    }
    if (row.kind.startsWith('memory-') && row.parent_id !== null) {
      // Hashed when they were written: a byte that changed since is found whether or not the file was looked at before.
      await verifyLayer({ map: ctx.layers.path(row.parent_id), pages: path }, row.id, options.signal);
    }
    if (row.kind === 'memory-map') await checkMap(ctx, row.id);
    if (row.state === 'sealed') {
      if ((facts.mode & 0o222) !== 0) problems.push('its file can be written, and it is sealed');
      problems.push(...(await hashProblems(ctx, row, options)));
    }
  } catch (error) {
    throwIfCancelled(options.signal, 'the verification');
    problems.push(messageOf(error));
  }
  return problems;
}

/** A map has a checksum of its own: one that is damaged already gets no hash. Throws `integrity`. */
async function checkMap(ctx: EngineContext, mapId: string): Promise<void> {
  const pages = await childOf(ctx.db, mapId);
  if (pages !== undefined) await readMap(ctx.layers.path(mapId), pages);
}

async function imageProblems(ctx: EngineContext, row: LayerRow): Promise<string[]> {
  const path = ctx.layers.path(row.id);
  const problems: string[] = [];
  const { backing, virtualSizeBytes } = await readHeader(path);
  if ((backing?.name ?? null) !== row.parent_id) {
    problems.push(
      `its header names ${backing?.name ?? 'no backing file'}, expected ${row.parent_id ?? 'none'}`,
    );
  }
  if (virtualSizeBytes !== row.virtual_bytes) {
    problems.push(`its disk has ${virtualSizeBytes} bytes, expected ${row.virtual_bytes}`);
  }
  // The tables of a disk that a machine writes are partly in that machine's memory.
  if (await isWritten(ctx, row.id)) return problems;
  const { corruptions, problems: found } = await checkImage(path);
  if (corruptions > 0) problems.push(`${corruptions} corruptions, the first: ${found[0]?.message}`);
  return problems;
}

async function isWritten(ctx: EngineContext, layerId: string): Promise<boolean> {
  const box = await findBoxWithHead(ctx.db, layerId);
  return box !== undefined && ctx.live.get(box.id) !== undefined;
}

async function hashProblems(ctx: EngineContext, row: LayerRow, options: CheckOptions): Promise<string[]> {
  const sha256 = await ctx.hasher.hash(row, options);
  if (row.sha256 === null) {
    await setHash(ctx.db, row.id, sha256);
    return [];
  }
  return sha256 === row.sha256 ? [] : [`its content changed: the hash is ${sha256}, expected ${row.sha256}`];
}

/** Rows that point at layers must hold them, else they would be collected; and nothing else keeps a layer. */
async function referenceProblems(ctx: EngineContext): Promise<Problem[]> {
  const holds = await allHolds(ctx.db);
  const held = new Set(holds.map(({ holder, layer_id }) => `${holder} ${layer_id}`));
  const needs = await layerNeeds(ctx.db);
  const missing = needs.flatMap(({ holder, layers }) =>
    layers
      .filter((layer) => !held.has(`${holder} ${layer}`))
      .map((layer) => ({ what: holder, problem: `it does not hold ${layer}, which it needs` })),
  );
  const known = new Set<string>(needs.map(({ holder }) => holder));
  const vain = holds
    .filter(({ holder }) => /^(box|snapshot|volume):/.test(holder) && !known.has(holder))
    .map(({ holder, layer_id }) => ({ what: layer_id, problem: `it is held by ${holder}, which is gone` }));
  return [...missing, ...vain];
}
