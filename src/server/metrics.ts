import type { RuntimeMetrics, StageTimes } from '../api/index.js';

/** Upper bounds in seconds: from a lookup to an image pull. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Stages come from the engine, which has a few dozen; the bound keeps a mistake there from growing this. */
const maxSeries = 1000;

interface Series {
  readonly counts: number[];
  sum: number;
  count: number;
}

/** One histogram with one label set per series. */
class Histogram {
  readonly #series = new Map<string, Series>();

  observe(labels: string, seconds: number): void {
    let series = this.#series.get(labels);
    if (!series) {
      if (this.#series.size >= maxSeries) return;
      series = { counts: buckets.map(() => 0), sum: 0, count: 0 };
      this.#series.set(labels, series);
    }
    series.sum += seconds;
    series.count += 1;
    for (const [i, bound] of buckets.entries()) {
      if (seconds <= bound) series.counts[i] = (series.counts[i] ?? 0) + 1;
    }
  }

  render(name: string, help: string): string[] {
    const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`];
    for (const [labels, { counts, sum, count }] of this.#series) {
      for (const [i, bound] of buckets.entries()) {
        lines.push(`${name}_bucket{${labels},le="${bound}"} ${counts[i] ?? 0}`);
      }
      lines.push(`${name}_bucket{${labels},le="+Inf"} ${count}`);
      lines.push(`${name}_sum{${labels}} ${sum}`, `${name}_count{${labels}} ${count}`);
    }
    return lines;
  }
}

const label = (name: string, value: string): string => `${name}="${value.replace(/["\\\n]/g, '_')}"`;

/** What a server counts, in the text format of Prometheus (exposition format 0.0.4). */
export class ServerMetrics {
  readonly #requests = new Map<string, number>();
  readonly #durations = new Histogram();
  readonly #stages = new Histogram();
  #sockets = 0;

  /** Counts a request that has ended. */
  request(operation: string, status: number, ms: number): void {
    const labels = `${label('operation', operation)},${label('status', String(status))}`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    this.#durations.observe(label('operation', operation), ms / 1000);
  }

  /** Counts how long each stage of an operation took, in milliseconds. */
  stages(operation: string, stages: StageTimes): void {
    for (const [stage, ms] of Object.entries(stages)) {
      this.#stages.observe(`${label('operation', operation)},${label('stage', stage)}`, ms / 1000);
    }
  }

  /** Counts a WebSocket while it is open. */
  socket(change: 1 | -1): void {
    this.#sockets += change;
  }

  /** The text of `GET /metrics`. */
  render(runtime: RuntimeMetrics): string {
    const total = (name: string, help: string, value: number): string[] => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} counter`,
      `${name} ${value}`,
    ];
    const gauge = (name: string, help: string, value: number): string[] => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} gauge`,
      `${name} ${value}`,
    ];
    const lines = [
      '# HELP cryobox_requests_total Requests by operation and HTTP status',
      '# TYPE cryobox_requests_total counter',
      ...[...this.#requests].map(([labels, count]) => `cryobox_requests_total{${labels}} ${count}`),
      ...this.#durations.render('cryobox_request_seconds', 'Duration of requests by operation'),
      ...this.#stages.render('cryobox_stage_seconds', 'Duration of the stages of an operation'),
      ...gauge('cryobox_websockets', 'Open WebSockets', this.#sockets),
      ...gauge('cryobox_boxes_running', 'Running boxes', runtime.runningBoxes),
      ...total('cryobox_boxes_created_total', 'Boxes made', runtime.boxesCreatedTotal),
      ...total('cryobox_boxes_failed_total', 'Boxes that lost their machine', runtime.boxesFailedTotal),
      ...total('cryobox_boxes_stopped_total', 'Boxes stopped', runtime.boxesStoppedTotal),
      ...total('cryobox_commands_total', 'Commands executed', runtime.commandsExecutedTotal),
      ...total('cryobox_exec_errors_total', 'Commands that could not be run', runtime.execErrorsTotal),
    ];
    return `${lines.join('\n')}\n`;
  }
}
