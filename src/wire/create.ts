import type { CreateOptions, LifetimeAction } from '../api/index.js';
import { type DiskLimitsJson, diskLimitsFromJson, diskLimitsToJson } from './disk-limits.js';
import { compact } from './json.js';
import { type NetworkJson, networkFromJson, networkToJson, ratesOfKilobits } from './network.js';
import { type PublishJson, publishFromJson, publishToJson } from './ports.js';
import { type SecretJson, secretsFromJson, secretsToJson } from './secrets.js';

/** One mount of a {@link CreateJson}. */
interface MountJson {
  readonly managed_volume: string;
  readonly guest_path: string;
  readonly read_only?: boolean;
}

/** Body of `POST {p}/boxes` as ours sends it: `CreateBoxRequest` of the v1 contract, section 1.5, and `template`. */
export interface CreateJson {
  readonly name?: string;
  readonly image?: string;
  readonly platform?: string;
  readonly template?: string;
  readonly cpus?: number;
  readonly memory_mib?: number;
  readonly disk_size_gb?: number;
  readonly hostname?: string;
  readonly working_dir?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly tty?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly auto_stop?: number;
  readonly auto_stop_action?: 'stop' | 'pause';
  readonly auto_delete?: number;
  readonly lifetime?: number;
  readonly lifetime_action?: LifetimeAction;
  readonly auto_resume?: boolean;
  readonly network?: NetworkJson;
  readonly disk_io?: DiskLimitsJson;
  readonly volumes?: readonly MountJson[];
  readonly ports?: readonly PublishJson[];
  readonly secrets?: readonly SecretJson[];
  readonly advanced?: {
    /** BoxLite's form of `network.rate_limit`, in kilobits a second. */
    readonly network_rate_limit?: { readonly tx_kbps?: number; readonly rx_kbps?: number };
    readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
  };
}

/**
 * The request for {@link CreateOptions}. `detach` stays with the caller: a box made over REST belongs to the server,
 * and the remote runtime removes what was made without `detach` when it is closed.
 */
export function createToJson(options: CreateOptions): CreateJson {
  return compact({
    name: options.name,
    image: options.image,
    platform: options.platform,
    template: options.template,
    cpus: options.cpus,
    memory_mib: options.memoryMiB,
    disk_size_gb: options.diskSizeGb,
    hostname: options.hostname,
    working_dir: options.workingDir,
    env: options.env,
    user: options.user,
    entrypoint: options.entrypoint,
    cmd: options.cmd,
    tty: options.tty,
    labels: options.labels,
    auto_stop: options.autoStop,
    auto_stop_action: options.autoStopAction,
    auto_delete: options.autoDelete,
    lifetime: options.lifetime,
    lifetime_action: options.lifetimeAction,
    auto_resume: options.autoResume,
    network: options.network && networkToJson(options.network),
    disk_io: options.diskLimits && diskLimitsToJson(options.diskLimits),
    volumes: options.volumes?.map((mount) => ({
      managed_volume: mount.volume,
      guest_path: mount.guestPath,
      read_only: mount.readOnly ?? false,
    })),
    ports: options.ports?.map(publishToJson),
    secrets: secretsToJson(options.secrets),
    advanced: options.capabilities && { capabilities: options.capabilities },
  });
}

/** The {@link CreateOptions} of a request whose shape was checked. */
export function createFromJson(json: CreateJson): CreateOptions {
  return compact({
    name: json.name,
    image: json.image,
    platform: json.platform,
    template: json.template,
    cpus: json.cpus,
    memoryMiB: json.memory_mib,
    diskSizeGb: json.disk_size_gb,
    hostname: json.hostname,
    workingDir: json.working_dir,
    env: json.env,
    user: json.user,
    entrypoint: json.entrypoint,
    cmd: json.cmd,
    tty: json.tty,
    labels: json.labels,
    autoStop: json.auto_stop,
    autoStopAction: json.auto_stop_action,
    autoDelete: json.auto_delete,
    lifetime: json.lifetime,
    lifetimeAction: json.lifetime_action,
    autoResume: json.auto_resume,
    network: networkFromJson(withRates(json)),
    diskLimits: json.disk_io && diskLimitsFromJson(json.disk_io),
    volumes: json.volumes?.map((mount) => ({
      volume: mount.managed_volume,
      guestPath: mount.guest_path,
      readOnly: mount.read_only ?? false,
    })),
    ports: json.ports?.map(publishFromJson),
    secrets: secretsFromJson(json.secrets),
    capabilities: json.advanced?.capabilities,
  });
}

/** `network`, with the limits of `advanced` where it has none of its own. */
function withRates({ network = {}, advanced }: CreateJson): NetworkJson {
  const kilobits = advanced?.network_rate_limit;
  return kilobits ? { rate_limit: ratesOfKilobits(kilobits), ...network } : network;
}
