import type { BoxMetrics, StageTimes } from '../../api/index.js';
import type { GuestMetrics } from '../../guest/index.js';
import type { LiveBox } from '../machines/live.js';
import { requireRow } from '../record/rows.js';
import type { EngineContext } from './context.js';
import { type Gauges, gaugesOf } from './gauges.js';

const none = {
  memoryBytes: null,
  diskUsedBytes: null,
  networkBytesSent: null,
  networkBytesReceived: null,
} satisfies Record<keyof Gauges, null>;

/** Counters of a box, and what its guest says of itself when it runs. */
export async function boxMetrics(ctx: EngineContext, boxId: string): Promise<BoxMetrics> {
  await ctx.counters.flush();
  const row = await requireRow(ctx.db, boxId);
  const live = ctx.live.get(boxId);
  const guest = live ? await live.agent.system.metrics() : undefined;
  const gauges = guest ? gaugesOf(guest) : none;
  return {
    commandsExecutedTotal: row.commands_total,
    execErrorsTotal: row.exec_errors_total,
    bytesSentTotal: row.bytes_sent_total,
    bytesReceivedTotal: row.bytes_received_total,
    cpuPercent: live && guest ? cpuPercent(live, guest) : null,
    ...gauges,
    uptimeMs: guest?.uptimeMs ?? null,
    stages: JSON.parse(row.stages) as StageTimes,
  };
}

/** Share of its processors a guest used since it was last asked, or since its boot. */
function cpuPercent(live: LiveBox, { cpu, uptimeMs }: GuestMetrics): number {
  const busyMs = cpu.userMs + cpu.systemMs;
  const last = live.cpu.last ?? { busyMs: 0, uptimeMs: 0 };
  live.cpu.last = { busyMs, uptimeMs };
  const passedMs = (uptimeMs - last.uptimeMs) * Math.max(1, cpu.cpus);
  if (passedMs <= 0) return 0;
  return Math.min(100, Math.round(((busyMs - last.busyMs) / passedMs) * 1000) / 10);
}
