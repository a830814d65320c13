import { trace } from '@opentelemetry/api';
import { packageVersion } from '../../base/version.js';

/** Where spans of the engine go: nowhere, unless the program installs an SDK of OpenTelemetry. */
export const tracer = trace.getTracer('cryobox', packageVersion());

/** How long the stages of an operation took; each is a span of its own, too. */
export class Stages {
  /** Milliseconds by stage, to a tenth. */
  readonly ms: Record<string, number> = {};

  /** Notes a stage that has just ended. */
  readonly record = (stage: string, durationMs: number): void => {
    this.ms[stage] = Math.round(durationMs * 10) / 10;
    tracer.startSpan(`stage ${stage}`, { startTime: Date.now() - durationMs }).end();
  };
}
