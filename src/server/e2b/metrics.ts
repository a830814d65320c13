import { z } from 'zod';
import type { Box, BoxInfo, MetricsPoint } from '../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { ok, type Route, route } from '../http/route.js';
import { controlDialect } from './dialect.js';
import { sandboxOf } from './lookup.js';
import { boxIdOf, sandboxIdOf } from './names.js';
import { boxIdParams } from './params.js';

/** Sandboxes that one question names at most, as in E2B. */
const maxSandboxes = 100;

/** Seconds since 1970. The latest is the last that a Date can say. */
const unixSeconds = z.coerce.number().int().min(0).max(8_640_000_000_000);
const windowQuery = z.looseObject({ start: unixSeconds.optional(), end: unixSeconds.optional() });
const manyQuery = z.looseObject({ sandbox_ids: z.union([z.string(), z.array(z.string())]) });

/** What sandboxes used: a series of one, the last point of many. */
export function metricsRoutes(): Route[] {
  return [
    route({
      method: 'GET',
      root: true,
      foreign: controlDialect,
      path: '/sandboxes/:id/metrics',
      operation: 'e2bGetMetrics',
      summary: 'What a sandbox used over the last hour',
      scope: 'box:read',
      params: boxIdParams,
      query: windowQuery,
      answer: { status: 200 },
      handle: async (call) => {
        const { start = 0, end = Number.POSITIVE_INFINITY } = call.query;
        if (start > end) throw new CryoboxError('invalid_argument', '`start` must not be after `end`');
        const { box, info } = await sandboxOf(call);
        const { points } = await box.metricsSeries({ signal: call.signal });
        const within = points.filter((point) => unixOf(point) >= start && unixOf(point) <= end);
        return ok(within.map((point) => metricToJson(info, point)));
      },
    }),
    route({
      method: 'GET',
      root: true,
      foreign: controlDialect,
      path: '/sandboxes/metrics',
      operation: 'e2bGetManyMetrics',
      summary: 'What sandboxes used last',
      scope: 'box:read',
      query: manyQuery,
      answer: { status: 200 },
      handle: async ({ query, runtime, signal }) => {
        const ids = [query.sandbox_ids].flat().flatMap((names) => names.split(','));
        if (ids.length > maxSandboxes) {
          throw new CryoboxError(
            'invalid_argument',
            `sandbox_ids names ${ids.length}, at most ${maxSandboxes}`,
          );
        }
        const sandboxes: Record<string, unknown> = {};
        for (const id of new Set(ids)) {
          const boxId = boxIdOf(id);
          const box = boxId === undefined ? null : await runtime.get(boxId, { signal });
          // Those that are not there, or have not run, have none.
          const last = box && (await lastOf(box, signal));
          if (last) sandboxes[sandboxIdOf(last.info.id)] = metricToJson(last.info, last.point);
        }
        return ok({ sandboxes });
      },
    }),
  ];
}

async function lastOf(
  box: Box,
  signal: AbortSignal,
): Promise<{ info: BoxInfo; point: MetricsPoint } | undefined> {
  try {
    const [info, { points }] = await Promise.all([box.info({ signal }), box.metricsSeries({ signal })]);
    const point = points.at(-1);
    return point && { info, point };
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return undefined;
    throw error;
  }
}

const unixOf = ({ at }: MetricsPoint): number => Math.floor(at.getTime() / 1000);

function metricToJson(info: BoxInfo, point: MetricsPoint): unknown {
  return {
    timestamp: point.at.toISOString(),
    timestampUnix: unixOf(point),
    cpuCount: info.cpus,
    cpuUsedPct: point.cpuPercent,
    memUsed: point.memoryBytes,
    memTotal: info.memoryMiB * 1024 ** 2,
    memCache: 0,
    diskUsed: point.diskUsedBytes,
    diskTotal: info.diskSizeGb * 1024 ** 3,
  };
}
