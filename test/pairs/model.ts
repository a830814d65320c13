import { type BoxStatus, type OperationName, ruleOf } from '../../src/api/index.js';

/** What users see of a box and of what was made of it. */
export interface State {
  /** `gone`: it was removed. */
  readonly status: BoxStatus | 'gone';
  /** Names of snapshots, boxes and a template that were made. */
  readonly names: readonly string[];
}

/** How one operation changes a state, by the table of operations. */
export interface Step {
  /** Its row in the table of operations; absent: legal in every state. */
  readonly rule?: OperationName;
  /** The state that the box has afterwards. @default as before, or `running` where the operation wakes the box */
  readonly to?: State['status'];
  /** A name that it makes, which must be free. */
  readonly makes?: string;
  /** A name that it needs. */
  readonly needs?: string;
  /** Whether that name is gone afterwards. */
  readonly takes?: boolean;
  /** Codes with which one that has begun may end, when an operation that ends machines comes between. */
  readonly endsWith?: readonly string[];
}

/** What became of one operation, and of the state. */
interface Outcome {
  readonly code: string;
  readonly state: State;
}

/** Every outcome that the table allows to an operation in a state. */
function outcomesOf(step: Step, state: State): Outcome[] {
  if (state.status === 'gone') return [{ code: 'not_found', state }];
  const refusals: Outcome[] = [];
  const rule = step.rule === undefined ? undefined : ruleOf(step.rule);
  const wakes = rule?.wakes?.includes(state.status) ?? false;
  if (rule && !wakes && !rule.from.includes(state.status)) refusals.push({ code: 'invalid_state', state });
  if (step.makes !== undefined && state.names.includes(step.makes)) {
    refusals.push({ code: 'already_exists', state });
  }
  if (step.needs !== undefined && !state.names.includes(step.needs))
    refusals.push({ code: 'not_found', state });
  if (refusals.length > 0) return refusals;
  const names = state.names.filter((name) => !(step.takes && name === step.needs));
  if (step.makes !== undefined) names.push(step.makes);
  const status = step.to ?? (wakes ? 'running' : state.status);
  return [{ code: 'done', state: { status, names: status === 'gone' ? [] : names.sort() } }];
}

/** Operations that end a machine under what runs in it. */
const ending: readonly string[] = ['stopped', 'gone'];

/** Every end that two operations may come to together, as text: one after the other, in either order. */
export function allowedEnds(first: Step, second: Step, state: State): Set<string> {
  const ends = new Set<string>();
  const add = (one: string, other: string, last: State): void => {
    ends.add(endText(one, other, last));
  };
  for (const a of outcomesOf(first, state)) {
    for (const b of outcomesOf(second, a.state)) {
      add(a.code, b.code, b.state);
      // The first had begun when the second ended its machine.
      if (endsMachines(second)) for (const code of first.endsWith ?? []) add(code, b.code, b.state);
    }
  }
  for (const b of outcomesOf(second, state)) {
    for (const a of outcomesOf(first, b.state)) {
      add(a.code, b.code, a.state);
      if (endsMachines(first)) for (const code of second.endsWith ?? []) add(a.code, code, a.state);
    }
  }
  return ends;
}

function endsMachines({ to, rule }: Step): boolean {
  return ending.includes(to ?? '') || rule === 'snapshot.rollback';
}

/** One end of two operations as text. */
export function endText(first: string, second: string, { status, names }: State): string {
  return `${first} and ${second}: ${status} with ${names.join(', ') || 'nothing'}`;
}
