import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RuntimeMetrics, StageTimes } from '../../api/index.js';

/** Upper bounds in seconds: from a lookup to an image pull. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

type Fact = readonly [name: string, help: string, value: number];

/** What a runtime counts, as numbers that only grow. */
const totalsOf = (runtime: RuntimeMetrics): readonly Fact[] => [
  ['cryobox_boxes_created_total', 'Boxes made', runtime.boxesCreatedTotal],
  ['cryobox_boxes_failed_total', 'Boxes that lost their machine', runtime.boxesFailedTotal],
  ['cryobox_boxes_stopped_total', 'Boxes stopped', runtime.boxesStoppedTotal],
  ['cryobox_commands_total', 'Commands executed', runtime.commandsExecutedTotal],
  ['cryobox_exec_errors_total', 'Commands that could not be run', runtime.execErrorsTotal],
];

/** The facts of a runtime as they are now; a registry of its own, as each tenant has its own facts. */
async function runtimeText(runtime: RuntimeMetrics): Promise<string> {
  const registry = new Registry();
  const registers = [registry];
  const running = new Gauge({ name: 'cryobox_boxes_running', help: 'Running boxes', registers });
  running.set(runtime.runningBoxes);
  const hot = new Gauge({ name: 'cryobox_hot_machines', help: 'Machines that wait warmed', registers });
  hot.set(runtime.hotMachines);
  const labelNames = ['scope', 'resource'];
  const used = new Gauge({ name: 'cryobox_used', help: 'What is used', labelNames, registers });
  const limit = new Gauge({ name: 'cryobox_limit', help: 'What may be used', labelNames, registers });
  for (const { scope, resource, ...use } of runtime.uses) {
    used.set({ scope, resource }, use.used);
    if (use.limit !== null) limit.set({ scope, resource }, use.limit);
  }
  for (const [name, help, value] of totalsOf(runtime)) new Counter({ name, help, registers }).inc(value);
  return registry.metrics();
}

/** What a server counts, in the text format of Prometheus (exposition format 0.0.4). Labels are names of our own. */
export class ServerMetrics {
  readonly #registry = new Registry();
  readonly #requests = new Counter({
    name: 'cryobox_requests_total',
    help: 'Requests by operation and HTTP status',
    labelNames: ['operation', 'status'],
    registers: [this.#registry],
  });
  readonly #durations = new Histogram({
    name: 'cryobox_request_seconds',
    help: 'Duration of requests by operation',
    labelNames: ['operation'],
    buckets,
    registers: [this.#registry],
  });
  readonly #stages = new Histogram({
    name: 'cryobox_stage_seconds',
    help: 'Duration of the stages of an operation',
    labelNames: ['operation', 'stage'],
    buckets,
    registers: [this.#registry],
  });
  readonly #sockets = new Gauge({
    name: 'cryobox_websockets',
    help: 'Open WebSockets',
    registers: [this.#registry],
  });

  /** Counts a request that has ended. */
  request(operation: string, status: number, ms: number): void {
    this.#requests.inc({ operation, status });
    this.#durations.observe({ operation }, ms / 1000);
  }

  /** Counts how long each stage of an operation took, in milliseconds. */
  stages(operation: string, stages: StageTimes): void {
    for (const [stage, ms] of Object.entries(stages)) this.#stages.observe({ operation, stage }, ms / 1000);
  }

  /** Counts a WebSocket while it is open. */
  socket(change: 1 | -1): void {
    this.#sockets.inc(change);
  }

  /** The text of `GET /metrics`. */
  async render(runtime: RuntimeMetrics): Promise<string> {
    return (await this.#registry.metrics()) + (await runtimeText(runtime));
  }
}
