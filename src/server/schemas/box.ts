import { z } from 'zod';
import { boxLimits, boxStatuses } from '../../api/index.js';
import type { CreateJson } from '../../wire/create.js';
import { guestPath, queryFlag, queryNumber, textMap } from './common.js';

const words = z.array(z.string().max(131_072)).max(4096);
const timer = z.int().min(0).max(boxLimits.timerSeconds);

/** Name of a box (v1 contract, section 1.5). */
export const boxName = z
  .string()
  .max(boxLimits.nameLength)
  .regex(
    /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/,
    'should be letters, digits, ".", "_" or "-", the first a letter or digit',
  );

const mode = z.enum(['enabled', 'disabled']);

/** What v1 has and ours refuses by name. An empty list asks for nothing. */
const refusedList = (what: string) => z.array(z.unknown()).max(0, `${what} are not supported`).optional();

const direction = z.strictObject({ mode: mode.optional(), allow_net: refusedList('address lists') });
const inbound = z.strictObject({
  mode: z.literal('enabled', 'only "enabled" is supported: a port is reachable for who has a key').optional(),
  allow_net: refusedList('address lists'),
});

/** Both shapes of `network`: by direction, and the flat one of old clients. Mixing them is refused. */
const network = z
  .strictObject({
    outbound: direction.optional(),
    inbound: inbound.optional(),
    mode: mode.optional(),
    allow_net: refusedList('address lists'),
  })
  .refine(
    (value) => !(value.mode && (value.outbound || value.inbound)),
    'should not mix "mode" with "outbound"',
  )
  .transform((value) => ({ outbound: value.outbound ?? { mode: value.mode } }));

const capabilityNames = z
  .array(z.string().regex(/^[A-Z_]{1,64}$/, 'should be a capability such as NET_ADMIN'))
  .max(64);

const mount = z.strictObject({
  managed_volume: z.string().min(1).max(128),
  guest_path: guestPath,
  read_only: z.boolean().optional(),
});

/** `CreateBoxRequest` of the v1 contract, section 1.5, and `template`. */
export const createRequest = z
  .strictObject({
    name: boxName.nullish().transform((name) => name ?? undefined),
    image: z.string().min(1).max(512).optional(),
    template: z.string().min(1).max(255).optional(),
    cpus: z.int().min(boxLimits.cpus.min).max(boxLimits.cpus.max).optional(),
    memory_mib: z.int().min(boxLimits.memoryMiB.min).max(boxLimits.memoryMiB.max).optional(),
    disk_size_gb: z.int().min(boxLimits.diskSizeGb.min).max(boxLimits.diskSizeGb.max).optional(),
    working_dir: guestPath.optional(),
    env: textMap.optional(),
    user: z.string().min(1).max(256).optional(),
    entrypoint: words.optional(),
    cmd: words.optional(),
    labels: z.record(z.string().max(boxLimits.labelLength), z.string().max(boxLimits.labelLength)).optional(),
    auto_stop: timer.optional(),
    auto_stop_action: z.enum(['stop', 'pause']).optional(),
    auto_delete: timer.optional(),
    auto_resume: z.boolean().optional(),
    network: network.optional(),
    volumes: z.array(mount).max(boxLimits.volumes).optional(),
    advanced: z
      .strictObject({
        capabilities: z
          .strictObject({ add: capabilityNames.optional(), drop: capabilityNames.optional() })
          .optional(),
      })
      .optional(),
    detach: z.boolean().optional().describe('Has no effect over REST: the server keeps the box'),
    tty: z.literal(false, 'a terminal is asked for with each exec').optional(),
    secrets: refusedList('secrets'),
    rootfs_path: z.never('is not supported; import the image first').optional(),
  })
  .refine((value) => (value.image === undefined) !== (value.template === undefined), {
    message: 'exactly one of "image" and "template" is needed',
  }) satisfies z.ZodType<CreateJson, unknown>;

/** Query of `GET {p}/boxes`. */
export const listQuery = z.strictObject({
  pageSize: queryNumber(1, 1000).optional(),
  pageToken: z.string().max(256).optional(),
  status: z.enum(boxStatuses).optional(),
});

/** Query of `DELETE {p}/boxes/{id}`. */
export const removeQuery = z.strictObject({ force: queryFlag.optional() });

/** `Box` of the v1 contract, section 1.5, and ours. */
export const boxBody = z
  .object({
    box_id: z.string(),
    name: z.string().nullable(),
    status: z.enum(boxStatuses),
    operation: z.string().nullable(),
    created_at: z.string(),
    updated_at: z.string(),
    image: z.string(),
    template: z.string().nullable(),
    cpus: z.int(),
    memory_mib: z.int(),
    disk_size_gb: z.int(),
    labels: z.record(z.string(), z.string()),
    auto_stop: z.int(),
    auto_delete: z.int(),
    auto_resume: z.boolean(),
    pid: z.int().nullable(),
    run: z.string().nullable(),
    failure: z.string().nullable(),
    stages: z.record(z.string(), z.number()),
    storage: z.object({ disk_bytes: z.int(), memory_bytes: z.int() }),
  })
  .loose();

/** Answer of `GET {p}/boxes`. */
export const boxListBody = z.object({ boxes: z.array(boxBody), next_page_token: z.string().optional() });
