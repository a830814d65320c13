/**
 * What a tenant, or the whole home, may have. Of all boxes and volumes: `boxes`; `diskGb`, the sizes of their disks in GiB,
 * however little is written; `snapshots`, templates among them. Of boxes that run: `runningBoxes`, their `cpus`, their
 * `memoryMiB`. `executions`: commands under way.
 */
export const limitedResources = [
  'boxes',
  'runningBoxes',
  'cpus',
  'memoryMiB',
  'diskGb',
  'snapshots',
  'executions',
] as const;

/** One of {@link limitedResources}. */
export type LimitedResource = (typeof limitedResources)[number];

/**
 * How much of something is used, and how much there may be. Of the `host`: `memoryMiB` is what running boxes may write to
 * together, against the host's memory times the home's factor; `freeDiskMiB` is what is free where the home lies, and its
 * limit is what must stay free.
 */
export interface ResourceUse {
  /** Whose: the tenant that asks, the home as a whole, or the host. Only the owner of the home sees the last two. */
  readonly scope: 'tenant' | 'home' | 'host';
  readonly resource: LimitedResource | 'freeDiskMiB';
  readonly used: number;
  /** Null: not limited. */
  readonly limit: number | null;
}
