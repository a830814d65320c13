/** States of a box as users see them. */
export const boxStatuses = ['configured', 'running', 'stopping', 'stopped', 'paused', 'failed'] as const;

/** State of a box: `configured` has never started, `failed` lost its machine. */
export type BoxStatus = (typeof boxStatuses)[number];

/** What is under way on a box; a crash of the engine never leaves one behind. */
export type BoxActivity =
  | 'starting'
  | 'snapshotting'
  | 'restoring'
  | 'cloning'
  | 'exporting'
  | 'pausing'
  | 'resuming'
  | 'forking';

interface OperationRule {
  /** States from which the operation is legal. */
  readonly from: readonly BoxStatus[];
  /** States from which the box is brought to `running` first, when its `autoResume` allows. */
  readonly wakes?: readonly BoxStatus[];
  /** Whether it waits for other operations on the box, and they for it. */
  readonly exclusive: boolean;
  /** What `box.operation` says meanwhile. */
  readonly activity?: BoxActivity;
  /** What the error says when the state is none of these. */
  readonly otherwise?: string;
}

const any = boxStatuses;
const halted = ['configured', 'stopped', 'failed'] as const;

/**
 * Every operation on a box, with the states it is legal in. The engine checks it, the documentation and the tests
 * are made from it.
 */
export const operations = {
  start: {
    from: [...halted, 'running'],
    exclusive: true,
    activity: 'starting',
    otherwise: 'Resume the box instead',
  },
  'start.discardMemory': { from: [...halted, 'running', 'paused'], exclusive: true, activity: 'starting' },
  stop: { from: any, exclusive: true },
  remove: { from: any, exclusive: true },
  exec: { from: ['running'], wakes: ['configured', 'stopped', 'paused'], exclusive: false },
  copy: { from: ['running'], wakes: ['configured', 'stopped', 'paused'], exclusive: false },
  metrics: { from: any, exclusive: false },
  'snapshot.create': {
    from: ['configured', 'stopped', 'running', 'paused'],
    exclusive: true,
    activity: 'snapshotting',
  },
  'snapshot.list': { from: any, exclusive: false },
  'snapshot.get': { from: any, exclusive: false },
  'snapshot.restore': {
    from: [...halted],
    exclusive: true,
    activity: 'restoring',
    otherwise: 'Stop the box first',
  },
  'snapshot.rollback': { from: any, exclusive: true, activity: 'restoring' },
  'snapshot.remove': { from: any, exclusive: true },
  clone: { from: ['configured', 'stopped', 'running', 'paused'], exclusive: true, activity: 'cloning' },
  export: { from: ['configured', 'stopped', 'running', 'paused'], exclusive: true, activity: 'exporting' },
  pause: { from: ['running'], exclusive: true, activity: 'pausing', otherwise: 'Start the box first' },
  resume: {
    from: ['paused', 'running'],
    exclusive: true,
    activity: 'resuming',
    otherwise: 'Start the box instead',
  },
  fork: {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'forking',
    otherwise: 'Start the box first',
  },
  'fork.fromSnapshot': { from: any, exclusive: true, activity: 'forking' },
  'template.create': {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'snapshotting',
    otherwise: 'Start the box first',
  },
} as const satisfies Record<string, OperationRule>;

/** The name of an operation on a box. */
export type OperationName = keyof typeof operations;

/** The rule of an operation. */
export function ruleOf(operation: OperationName): OperationRule {
  return operations[operation];
}
