import { z } from 'zod';
import { boxLimits } from '../../api/index.js';

const texts = z.record(z.string(), z.string());
const flag = z.boolean().nullish();
/** Seconds; a year is the longest that timers of boxes are. */
const seconds = z.int().min(0).max(31_536_000);

/** A name of a host, with a port where one is meant; `${PORT}` stands for that of the request. */
const hostPattern = /^(?=.)[a-z0-9.$*{}_-]*(?::(?:\d{1,5}|\$\{PORT\}))?$/i;

/** Addresses, ranges and names; a list of the gateway has as many. */
const rulesList = z.array(z.string().max(300)).max(boxLimits.networkRules).nullish();

/** What a new sandbox says of its network. */
const network = z.looseObject({
  allowOut: rulesList,
  denyOut: rulesList,
  allowPublicTraffic: flag,
  maskRequestHost: z.string().max(256).regex(hostPattern, 'is no name of a host').nullish(),
  httpsPorts: z.array(z.int().min(1).max(65_535)).max(64).nullish(),
});

/** Body of `POST /sandboxes` and `POST /v2/sandboxes`. What is not known is ignored, as clients of any version send it. */
export const newSandbox = z.looseObject({
  templateID: z.string().min(1).max(512),
  timeout: seconds.min(1, 'Timeout must be greater than 0').nullish(),
  metadata: texts.nullish(),
  envVars: texts.nullish(),
  autoPause: flag,
  autoPauseMemory: flag,
  autoResume: z.looseObject({ enabled: z.boolean() }).nullish(),
  secure: flag,
  allow_internet_access: flag,
  network: network.nullish(),
  mcp: z.unknown().optional(),
  iam: z.unknown().optional(),
  volumeMounts: z.array(z.looseObject({ name: z.string(), path: z.string() })).nullish(),
});

/** Body of `POST .../connect`, `.../resume` and `.../timeout`. */
export const timeoutRequest = z.looseObject({ timeout: seconds.nullish(), memory: flag });

/** Body of `POST .../refreshes`. */
export const refreshRequest = z.looseObject({ duration: z.int().min(0).max(3600).nullish() });

/** Body of `POST .../pause`. */
export const pauseRequest = z.looseObject({ memory: flag, requireHealthyGuest: flag });

/** Body of `POST .../snapshots`. */
export const snapshotRequest = z.looseObject({ name: z.string().min(1).max(256).nullish(), memory: flag });

/** Body of `POST .../fork`. */
export const forkRequest = z.looseObject({
  timeout: seconds.min(1, 'Timeout must be greater than 0').nullish(),
  count: z.int().min(1).max(100).nullish(),
});

/** Body of `PUT .../network`. What is left out is as at first. */
export const networkUpdate = z.looseObject({
  allowOut: rulesList,
  denyOut: rulesList,
  allow_internet_access: flag,
});

/** Query of every list in pages. */
export const pageQuery = z.looseObject({
  limit: z.coerce.number().int().min(1).max(100).optional(),
  nextToken: z.string().optional(),
});

/** Query of the lists of sandboxes. */
export const listQuery = pageQuery.extend({
  /** Pairs as in a query string, encoded once more. */
  metadata: z.string().optional(),
  /** Of `running` and `paused`, separated by commas, or given several times. */
  state: z.union([z.string(), z.array(z.string())]).optional(),
  order: z.enum(['asc', 'desc']).optional(),
  startedAfter: z.iso.datetime({ offset: true }).optional(),
  template: z.string().optional(),
});

/** A query that says nothing to us. */
export const anyQuery = z.looseObject({});
