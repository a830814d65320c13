import type { BoxActivity, MetricsSeries } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { isCryoboxError, messageOf } from '../../errors.js';
import { cpuTimeMs } from '../../machine/index.js';
import type { LiveBox, LiveBoxes } from '../machines/live.js';
import { type Gauges, gaugesOf } from './gauges.js';
import { SeriesRing } from './series-ring.js';

/** How often a point is taken: what E2B's service does, and enough for a chart of an hour. */
const intervalMs = 5_000;
/** An hour of points. */
const maxPoints = 720;
/** Boxes of which points are kept, 34 KiB each: the most a host is made for. Those that come later have none meanwhile. */
const maxBoxes = 1_000;
/**
 * A guest is asked again once its machine has used so much processor time since it was asked last. One that stands still
 * has not changed: nothing is asked of it, and its last figures hold.
 */
const askAfterCpuMs = 100;
/** Guests answer in milliseconds. One that does not keeps its last figures, and is asked again at the next point. */
const askTimeoutMs = 2_000;
/** Guests asked at once: points of all boxes come at one time, and must not hold up what users do. */
const maxAsked = 8;

interface Series {
  readonly ring: SeriesRing;
  /** The machine whose figures `machineMs` and `askedMs` are. */
  machineId?: string;
  /** Processor time of the machine at the last point, and when the guest was asked last; milliseconds. */
  machineMs: number;
  askedMs: number;
  /** Processors of the guest. */
  cpus: number;
  taking?: Promise<void> | undefined;
}

interface Needs {
  readonly live: LiveBoxes;
  readonly activities: ReadonlyMap<string, BoxActivity>;
  readonly logger: Logger;
}

/**
 * What boxes used over the last hour, a point every five seconds while they run. The points are in the engine's memory:
 * they outlive pauses, stops and rollbacks of the box, and end with the engine.
 */
export class SeriesKeeper {
  readonly #needs: Needs;
  readonly #series = new Map<string, Series>();
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  /** Begins to take points. Keeps no program alive. */
  start(): void {
    this.#timer = setInterval(() => {
      // A round that takes longer than the interval leaves points out.
      this.#round ??= this.#takeAll().finally(() => {
        this.#round = undefined;
      });
    }, intervalMs).unref();
  }

  /** The points of a box later than `since`. Of one that has just come to run the first is taken now. */
  async of(boxId: string, since: Date | undefined): Promise<MetricsSeries> {
    const live = this.#needs.live.get(boxId);
    if (live && !this.#series.get(boxId)?.ring.last) await this.#take(live);
    const from = Math.max(since?.getTime() ?? 0, Date.now() - intervalMs * maxPoints);
    return { intervalMs, points: this.#series.get(boxId)?.ring.after(from) ?? [] };
  }

  /** Takes no more points, and waits for what is being asked. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing.abort();
    await Promise.all([this.#round, ...[...this.#series.values()].map(({ taking }) => taking)]);
  }

  async #takeAll(): Promise<void> {
    this.#forgetOld();
    const waiting = this.#needs.live.all();
    const takeNext = async (): Promise<void> => {
      for (let live = waiting.pop(); live && !this.#closing.signal.aborted; live = waiting.pop()) {
        await this.#take(live);
      }
    };
    await Promise.all(Array.from({ length: maxAsked }, takeNext));
  }

  /** Lets go of boxes that have not run within the hour. */
  #forgetOld(): void {
    const oldest = Date.now() - intervalMs * maxPoints;
    for (const [boxId, { ring, taking }] of this.#series) {
      if (!taking && !this.#needs.live.get(boxId) && (ring.last?.at.getTime() ?? 0) < oldest) {
        this.#series.delete(boxId);
      }
    }
  }

  /** Takes a point. Never fails: a point that cannot be taken is left out. */
  async #take(live: LiveBox): Promise<void> {
    const series = this.#series.get(live.boxId) ?? newSeries();
    if (!this.#series.has(live.boxId)) {
      if (this.#series.size >= maxBoxes) return;
      this.#series.set(live.boxId, series);
    }
    series.taking ??= this.#point(live, series)
      .catch((error: unknown) => {
        this.#needs.logger.debug('left a point of a box out', { box: live.boxId, reason: messageOf(error) });
      })
      .finally(() => {
        series.taking = undefined;
      });
    await series.taking;
  }

  async #point(live: LiveBox, series: Series): Promise<void> {
    const machineMs = await cpuTimeMs(live.machine.process.pid);
    // It has just ended, or its state is being captured, which a question would wait for.
    if (machineMs === undefined || !live.gate.isOpen) return;
    const isSame = series.machineId === live.machineId;
    const last = isSame ? series.ring.last : undefined;
    const isQuiet = this.#needs.activities.has(live.boxId) || machineMs - series.askedMs < askAfterCpuMs;
    const asked = last && isQuiet ? undefined : await this.#ask(live, last !== undefined);
    const gauges = asked?.gauges ?? last;
    if (!gauges) return;
    const at = new Date();
    const passedMs = last ? at.getTime() - last.at.getTime() : 0;
    series.ring.push({
      at,
      cpuPercent: last ? percent(machineMs - series.machineMs, passedMs * series.cpus) : 0,
      memoryBytes: gauges.memoryBytes,
      diskUsedBytes: gauges.diskUsedBytes,
      networkBytesSent: gauges.networkBytesSent,
      networkBytesReceived: gauges.networkBytesReceived,
    });
    if (asked) {
      series.askedMs = machineMs;
      series.cpus = asked.cpus;
    }
    series.machineId = live.machineId;
    series.machineMs = machineMs;
  }

  /** What the guest says; undefined when it does not answer and its last figures can hold. */
  async #ask(live: LiveBox, hasLast: boolean): Promise<{ gauges: Gauges; cpus: number } | undefined> {
    const leave = live.gate.enter();
    try {
      const options = { timeoutMs: askTimeoutMs, signal: this.#closing.signal };
      const metrics = await live.agent.system.metrics(options);
      return { gauges: gaugesOf(metrics), cpus: Math.max(1, metrics.cpu.cpus) };
    } catch (error) {
      if (hasLast && isCryoboxError(error, 'timeout')) return undefined;
      throw error;
    } finally {
      leave();
    }
  }
}

const newSeries = (): Series => ({ ring: new SeriesRing(maxPoints), machineMs: 0, askedMs: 0, cpus: 1 });

/** A share in percent, to a tenth. QEMU's own threads count as well, so that it could be more than all. */
function percent(usedMs: number, ofMs: number): number {
  if (ofMs <= 0) return 0;
  return Math.min(100, Math.round((Math.max(0, usedMs) / ofMs) * 1000) / 10);
}
