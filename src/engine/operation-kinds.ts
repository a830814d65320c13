import type { Box, Runtime } from '../api/index.js';

/**
 * `change`: changes something that outlives the call; its signal is raised when the engine closes. `use`: ends with the
 * connection to the machine that it uses. `other`: no operation; it ends a handle, or gives what has no end.
 */
type OperationKind = 'change' | 'use' | 'other';

/** The kind of every method, and those of its parts. The type holds that none is forgotten. */
export type Kinds<T> = {
  readonly [Name in keyof T as Name extends string
    ? T[Name] extends object
      ? Name
      : never
    : never]: T[Name] extends (...args: never[]) => unknown ? OperationKind : Kinds<T[Name]>;
};

/** Kinds of the operations of a runtime. */
export const kindsOfRuntime: Kinds<Runtime> = {
  create: 'change',
  getOrCreate: 'change',
  get: 'use',
  list: 'use',
  remove: 'change',
  import: 'change',
  adopt: 'change',
  metrics: 'use',
  tree: 'use',
  events: 'other',
  gc: 'change',
  verify: 'change',
  close: 'other',
  images: {
    pull: 'change',
    import: 'change',
    build: 'change',
    list: 'use',
    get: 'use',
    named: 'use',
    alias: 'change',
    remove: 'change',
    prune: 'change',
  },
  templates: { create: 'change', list: 'use', get: 'use', remove: 'change' },
  volumes: { create: 'change', list: 'use', get: 'use', remove: 'change' },
};

/** Kinds of the operations of a box. */
export const kindsOfBox: Kinds<Box> = {
  info: 'use',
  metrics: 'use',
  metricsSeries: 'use',
  start: 'change',
  stop: 'change',
  rename: 'change',
  limitDisk: 'change',
  setLifetime: 'change',
  remove: 'change',
  exec: 'use',
  startExec: 'use',
  diff: 'change',
  clone: 'change',
  release: 'change',
  export: 'change',
  exportStream: 'change',
  pause: 'change',
  resume: 'change',
  fork: 'change',
  dial: 'use',
  mainOutput: 'use',
  waitForPort: 'use',
  consoleLog: 'use',
  files: {
    copyIn: 'use',
    copyOut: 'use',
    unpack: 'use',
    pack: 'use',
    read: 'use',
    readStream: 'use',
    write: 'use',
    list: 'use',
    stat: 'use',
    makeDirectory: 'use',
    remove: 'use',
    rename: 'use',
    watch: 'use',
  },
  executions: {
    list: 'use',
    get: 'use',
    attach: 'use',
    output: 'use',
    signal: 'use',
    kill: 'use',
    resize: 'use',
  },
  snapshot: { create: 'change', list: 'use', get: 'use', restore: 'change', remove: 'change' },
  network: { info: 'use', update: 'change', setInbound: 'change' },
  ports: { list: 'use', publish: 'change', unpublish: 'change' },
  previews: { list: 'use', create: 'change', remove: 'change' },
  secrets: { list: 'use', set: 'change', remove: 'change' },
};
