import { z } from 'zod';

const texts = z.record(z.string(), z.string());
const flag = z.boolean().nullish();
/** Seconds; a year is the longest that timers of boxes are. */
const seconds = z.int().min(0).max(31_536_000);

/** A name of a host, with a port where one is meant; `${PORT}` stands for that of the request. */
const hostPattern = /^(?=.)[a-z0-9.$*{}_-]*(?::(?:\d{1,5}|\$\{PORT\}))?$/i;

/** What a new sandbox says of its network. */
const network = z.looseObject({
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

/** Query of the lists of sandboxes. */
export const listQuery = z.looseObject({
  /** Pairs as in a query string, encoded once more. */
  metadata: z.string().optional(),
  /** Of `running` and `paused`, separated by commas, or given several times. */
  state: z.union([z.string(), z.array(z.string())]).optional(),
  order: z.enum(['asc', 'desc']).optional(),
  startedAfter: z.iso.datetime({ offset: true }).optional(),
  template: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(100).optional(),
  nextToken: z.string().optional(),
});

/** A query that says nothing to us. */
export const anyQuery = z.looseObject({});
