import type { BoxMetrics, StageTimes } from '../../api/index.js';
import type { EngineContext } from '../context.js';
import { requireRow } from './rows.js';

/** Counters of a box, and what its guest says of itself when it runs. */
export async function boxMetrics(ctx: EngineContext, boxId: string): Promise<BoxMetrics> {
  await ctx.counters.flush();
  const row = await requireRow(ctx.db, boxId);
  const live = ctx.live.get(boxId);
  const guest = live ? await live.agent.metrics() : undefined;
  return {
    commandsExecutedTotal: row.commands_total,
    execErrorsTotal: row.exec_errors_total,
    bytesSentTotal: row.bytes_sent_total,
    bytesReceivedTotal: row.bytes_received_total,
    cpuPercent: guest?.cpuPercent ?? null,
    memoryBytes: guest?.memoryUsedBytes ?? null,
    networkBytesSent: guest?.networkBytesSent ?? null,
    networkBytesReceived: guest?.networkBytesReceived ?? null,
    diskUsedBytes: guest?.diskUsedBytes ?? null,
    uptimeMs: guest?.uptimeMs ?? null,
    stages: JSON.parse(row.stages) as StageTimes,
  };
}
