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

/** When an operation on a box is legal, and what it needs. */
export interface OperationRule {
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
  /**
   * What it means for an undecided box: a paused one with a `failure`, whose machine was lost before it had all of its
   * memory. Such a box has its memory with the disks of that moment, and newer disks. Absent: as for any other box.
   */
  readonly undecided?: UndecidedRule;
}

/**
 * `refused`: until `start.discardMemory`, `resume`, `stop` or `snapshot.rollback` decides. `disks`: goes by the newest disks.
 * `memory`: goes by the memory and the disks of its moment.
 */
export type UndecidedRule = 'refused' | 'disks' | 'memory';

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
  'start.discardMemory': {
    from: [...halted, 'running', 'paused'],
    exclusive: true,
    activity: 'starting',
    undecided: 'disks',
  },
  stop: { from: any, exclusive: true, undecided: 'disks' },
  rename: { from: any, exclusive: true },
  'disk.limit': { from: any, exclusive: true },
  lifetime: { from: any, exclusive: true },
  remove: { from: any, exclusive: true },
  exec: {
    from: ['running'],
    wakes: ['configured', 'stopped', 'paused'],
    exclusive: false,
    undecided: 'refused',
  },
  copy: {
    from: ['running'],
    wakes: ['configured', 'stopped', 'paused'],
    exclusive: false,
    undecided: 'refused',
  },
  metrics: { from: any, exclusive: false },
  network: { from: any, exclusive: false },
  'network.update': { from: any, exclusive: true },
  'ports.change': { from: any, exclusive: true },
  'secrets.change': { from: any, exclusive: true },
  'snapshot.create': {
    from: ['configured', 'stopped', 'running', 'paused'],
    exclusive: true,
    activity: 'snapshotting',
    undecided: 'disks',
  },
  'snapshot.create.memory': {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'snapshotting',
    otherwise: 'Start the box first, or leave its memory out',
    undecided: 'memory',
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
  diff: {
    from: [...halted, 'paused'],
    exclusive: true,
    otherwise:
      'Take a snapshot and compare that: `cryobox snapshot create BOX NAME`, then `cryobox diff BOX@NAME`',
    undecided: 'disks',
  },
  clone: {
    from: ['configured', 'stopped', 'running', 'paused'],
    exclusive: true,
    activity: 'cloning',
    undecided: 'disks',
  },
  export: {
    from: ['configured', 'stopped', 'running', 'paused'],
    exclusive: true,
    activity: 'exporting',
    undecided: 'disks',
  },
  'export.memory': {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'exporting',
    otherwise: 'Start the box first, or leave its memory out',
    undecided: 'memory',
  },
  pause: { from: ['running'], exclusive: true, activity: 'pausing', otherwise: 'Start the box first' },
  resume: {
    from: ['paused', 'running'],
    exclusive: true,
    activity: 'resuming',
    otherwise: 'Start the box instead',
    undecided: 'memory',
  },
  fork: {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'forking',
    otherwise: 'Start the box first',
    undecided: 'memory',
  },
  'fork.fromSnapshot': { from: any, exclusive: true, activity: 'forking' },
  release: {
    from: ['stopped', 'paused', 'failed'],
    exclusive: true,
    otherwise: 'Pause or stop the box first',
    undecided: 'refused',
  },
  'template.create': {
    from: ['running', 'paused'],
    exclusive: true,
    activity: 'snapshotting',
    otherwise: 'Start the box first',
    undecided: 'memory',
  },
} as const satisfies Record<string, OperationRule>;

/** The name of an operation on a box. */
export type OperationName = keyof typeof operations;

/** The rule of an operation. */
export function ruleOf(operation: OperationName): OperationRule {
  return operations[operation];
}
