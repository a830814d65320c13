import { z } from 'zod';
import { boxLimits, boxStatuses, durabilities } from '../../../api/index.js';
import type { CreateJson } from '../../../wire/create.js';
import type { DiskLimitsJson } from '../../../wire/disk-limits.js';
import type { PublishJson } from '../../../wire/ports.js';
import type { SecretJson } from '../../../wire/secrets.js';
import { guestPath, named, openQuery, queryFlag, queryNumber, textMap } from '../../http/common-schemas.js';

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

/** Rules of a list; the engine says which one is wrong. */
const rules = z.array(z.string().max(300)).max(boxLimits.networkRules).optional();
const outbound = z.strictObject({ mode: mode.optional(), allow_net: rules, deny_net: rules });
const inbound = z.strictObject({
  // Clients of 0.10.0 send "enabled" always, so that nothing is made public by it: PUT network/inbound does that.
  mode: mode.optional(),
  allow_net: refusedList('address lists'),
});

const { networkBytesPerSecond } = boxLimits;
const rate = z.int().min(networkBytesPerSecond.min).max(networkBytesPerSecond.max).optional();
/** BoxLite's; 0 limits nothing. */
const kilobits = z.int().min(0).max(4_294_967_295).optional();

/** Both shapes of `network`: by direction, and the flat one of old clients. Mixing them is refused. */
const network = z
  .strictObject({
    outbound: outbound.optional(),
    inbound: inbound.optional(),
    mode: mode.optional(),
    allow_net: rules,
    rate_limit: z.strictObject({ send_bps: rate, receive_bps: rate }).optional(),
  })
  .refine(
    (value) => !((value.mode || value.allow_net) && (value.outbound || value.inbound)),
    'should not mix "mode" with "outbound"',
  )
  .transform((value) => ({
    outbound: value.outbound ?? { mode: value.mode, allow_net: value.allow_net },
    ...(value.rate_limit && { rate_limit: value.rate_limit }),
  }));

/** Body of `PUT {p}/boxes/{id}/network/outbound`: all of it; what is left out has its default. */
export const outboundRequest = outbound.extend({ mode });

/** Body of `PUT {p}/boxes/{id}/network`: all of it; what is left out has its default. */
export const networkRequest = network;

const { diskBytesPerSecond: bytes, diskOperationsPerSecond: operations } = boxLimits;
const bytesPerSecond = z.int().min(bytes.min).max(bytes.max).optional();
const operationsPerSecond = z.int().min(operations.min).max(operations.max).optional();

/** `disk_io` of a create, and body of `PUT {p}/boxes/{id}/disk_io`: what is left out is not limited. */
export const diskLimits = z.strictObject({
  read_bps: bytesPerSecond,
  write_bps: bytesPerSecond,
  read_iops: operationsPerSecond,
  write_iops: operationsPerSecond,
}) satisfies z.ZodType<DiskLimitsJson>;

const capabilityNames = z
  .array(z.string().regex(/^[A-Z_]{1,64}$/, 'should be a capability such as NET_ADMIN'))
  .max(64);

const mount = z.strictObject({
  managed_volume: z.string().min(1).max(128),
  guest_path: guestPath,
  read_only: z.boolean().optional(),
});

const port = z.int().min(1).max(65_535);

/** Body of `POST {p}/boxes/{id}/ports`. */
export const publishRequest = z.strictObject({
  guest_port: port,
  host_port: port.optional(),
  host_ip: z.string().max(64).optional(),
}) satisfies z.ZodType<PublishJson>;

const lifetimeAction = z.enum(['stop', 'pause', 'remove']);

/** Body of `PUT {p}/boxes/{id}/lifetime`. */
export const lifetimeRequest = z.strictObject({
  seconds: timer,
  action: lifetimeAction.optional(),
  extend_only: z.boolean().optional(),
});
/** Parts of a secret, as far as they are bounded here. */
export const secretName = z.string().min(1).max(128);
export const secretValue = z.string().min(1).max(8192);
export const secretPlaceholder = z.string().min(1).max(256);
export const secretHosts = z.array(z.string().min(1).max(300)).min(1).max(8);

const secretRequest = z.strictObject({
  name: secretName,
  value: secretValue,
  hosts: secretHosts,
  placeholder: secretPlaceholder.optional(),
}) satisfies z.ZodType<SecretJson>;

/** Labels of a box or template. */
export const boxLabels = z.record(
  z.string().max(boxLimits.labelLength),
  z.string().max(boxLimits.labelLength),
);

/** `CreateBoxRequest` of the v1 contract, section 1.5, and `template`. */
export const createRequest = z
  .strictObject({
    name: boxName.nullish().transform((name) => name ?? undefined),
    image: z.string().min(1).max(512).optional(),
    platform: z.string().max(64).optional().describe('Such as linux/arm64; of the image and the machine'),
    template: z.string().min(1).max(255).optional(),
    cpus: z.int().min(boxLimits.cpus.min).max(boxLimits.cpus.max).optional(),
    memory_mib: z.int().min(boxLimits.memoryMiB.min).max(boxLimits.memoryMiB.max).optional(),
    disk_size_gb: z.int().min(boxLimits.diskSizeGb.min).max(boxLimits.diskSizeGb.max).optional(),
    hostname: z.string().min(1).max(64).optional(),
    working_dir: guestPath.optional(),
    env: textMap.optional(),
    user: z.string().min(1).max(256).optional(),
    entrypoint: words.optional(),
    cmd: words.optional(),
    labels: boxLabels.optional(),
    auto_stop: timer.optional(),
    auto_stop_action: z.enum(['stop', 'pause']).optional(),
    auto_delete: timer.optional(),
    lifetime: timer.optional(),
    lifetime_action: lifetimeAction.optional(),
    auto_resume: z.boolean().optional(),
    network: network.optional(),
    disk_io: diskLimits.nullish().transform((limits) => limits ?? undefined),
    volumes: z.array(mount).max(boxLimits.volumes).optional(),
    ports: z.array(publishRequest).max(boxLimits.ports).optional(),
    advanced: z
      .strictObject({
        capabilities: z
          .strictObject({ add: capabilityNames.optional(), drop: capabilityNames.optional() })
          .optional(),
        network_rate_limit: z.strictObject({ tx_kbps: kilobits, rx_kbps: kilobits }).optional(),
      })
      .optional(),
    detach: z.boolean().optional().describe('Has no effect over REST: the server keeps the box'),
    tty: z.boolean().optional().describe('Whether the main command runs on a terminal'),
    secrets: z.array(secretRequest).max(boxLimits.secrets).optional(),
    rootfs_path: z.never('is not supported; import the image first').optional(),
  })
  .refine((value) => (value.image === undefined) !== (value.template === undefined), {
    message: 'exactly one of "image" and "template" is needed',
  })
  .register(named, { id: 'CreateBoxRequest' }) satisfies z.ZodType<CreateJson, unknown>;

/** Query of `GET {p}/boxes`. */
export const listQuery = openQuery({
  pageSize: queryNumber(1, 1000).optional(),
  pageToken: z.string().max(256).optional(),
  status: z.enum(boxStatuses).optional(),
});

/** Query of `DELETE {p}/boxes/{id}`. */
export const removeQuery = openQuery({ force: queryFlag.optional() });

/** `Box` of the v1 contract, section 1.5, and ours. */
export const boxBody = z
  .object({
    box_id: z.string(),
    name: z.string().nullable(),
    status: z.enum(boxStatuses),
    operation: z.string().nullable(),
    created_at: z.string(),
    updated_at: z.string(),
    last_activity_at: z.string(),
    image: z.string(),
    template: z.string().nullable(),
    cpus: z.int(),
    memory_mib: z.int(),
    disk_size_gb: z.int(),
    env: z.record(z.string(), z.string()),
    missing_env: z.array(z.string()),
    labels: z.record(z.string(), z.string()),
    tty: z.boolean(),
    exit_code: z.int().nullable(),
    auto_stop: z.int(),
    auto_delete: z.int(),
    auto_resume: z.boolean(),
    pid: z.int().nullable(),
    run: z.string().nullable(),
    failure: z.string().nullable(),
    stages: z.record(z.string(), z.number()),
    durability: z.enum(durabilities),
    storage: z.object({ disk_bytes: z.int(), memory_bytes: z.int() }),
  })
  .loose()
  .register(named, { id: 'Box' });

/** Answer of `GET {p}/boxes`. */
export const boxListBody = z
  .object({ boxes: z.array(boxBody), next_page_token: z.string().optional() })
  .register(named, { id: 'BoxList' });
