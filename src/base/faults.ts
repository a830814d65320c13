import { appendFileSync } from 'node:fs';

/**
 * Places where the engine may be killed for a test: before and after everything that a crash could leave half done.
 * The name says what is about to happen, or has just happened.
 */
export const faultPoints = [
  'head.create:before',
  'head.create:after',
  'layer.write:before',
  'layer.write:after',
  'layer.publish:before',
  'layer.publish:after',
  'layer.seal:before',
  'layer.seal:after',
  'layer.remove:before',
  'layer.remove:after',
  'header.write:before',
  'header.write:after',
  'sync:before',
  'sync:after',
  'commit:before',
  'commit:after',
  'qmp:before',
  'qmp:after',
  'guest.freeze:after',
  'guest.thaw:before',
  'hot.rehearse:before',
  'hot.rehearse:after',
  'hot.hand-over:before',
  'hot.hand-over:equipped',
  'hot.hand-over:after',
  'machine.launch:before',
  'machine.launch:after',
  'scratch.create:after',
  'scratch.remove:before',
  'archive.rename:before',
  'archive.rename:after',
  'box.remove:before',
  'box.remove:after',
  'answer.keep:before',
  'answer.keep:after',
  'replica.layer:before',
  'replica.layer:after',
  'replica.index:after',
  'replica.manifest:before',
  'replica.manifest:after',
  'replica.remove:after',
  'recover.layer:after',
  'recover.blob:after',
  'recover.claim:after',
  'release.commit:after',
  'release.put:after',
  'adopt.claim:after',
  'adopt.commit:after',
] as const;

/** A place of {@link faultPoints}. */
export type FaultPoint = (typeof faultPoints)[number];

/** What happens at fault points. */
export interface FaultPlan {
  /** Kills the process the `hit`th time it comes to `point`. */
  readonly kill?: { readonly point: string; readonly hit: number };
  /** File that gets a line for each point passed. */
  readonly trace?: string;
}

let plan: FaultPlan | undefined = planFrom(process.env.CRYOBOX_FAULT);
let hits = 0;

/** Replaces the plan. It comes from `CRYOBOX_FAULT` otherwise: `point` or `point@hit`, such as `commit:after@2`. */
export function planFaults(next: FaultPlan | undefined): void {
  plan = next;
  hits = 0;
}

/** A place where a test may kill the process; does nothing unless it was asked for. */
export function faultPoint(name: FaultPoint): void {
  if (plan === undefined) return;
  if (plan.trace !== undefined) appendFileSync(plan.trace, `${name}\n`);
  if (plan.kill?.point !== name) return;
  hits += 1;
  // No handler and no exit hook runs: it is as if the power of this process had gone.
  if (hits === plan.kill.hit) process.kill(process.pid, 'SIGKILL');
}

function planFrom(text: string | undefined): FaultPlan | undefined {
  if (!text) return undefined;
  const [point = '', hit = '1'] = text.split('@');
  return { kill: { point, hit: Number(hit) } };
}
