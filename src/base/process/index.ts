/**
 * The one place that starts processes. `node:child_process` is imported nowhere else in src (.dependency-cruiser.cjs):
 * here its early failures are errors of the catalogue, and never an event that nobody listens to.
 */
export { type ProcessResult, type RunOptions, runProcess } from './run.js';
export { type ProcessEnd, StartedProcess, type StartOptions, startProcess } from './start.js';
