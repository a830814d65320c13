import type { BoxInfo } from '../../api/index.js';
import { isLoopback } from '../http/listen.js';
import { type E2bContext, tokenOf, trafficTokenOf } from './context.js';
import { egressOf } from './egress.js';
import { factsOf, metadataOf } from './facts.js';
import { sandboxIdOf } from './names.js';

/** What of envd's versions the inside of our sandboxes is equal to: clients offer what that version has. */
const envdVersion = '0.5.7';
/** Clients want the field, and use it for nothing. */
const clientID = 'cryobox';
/** The end of what does not end. */
const never = '9999-12-31T23:59:59.000Z';
/** Leads nowhere: it keeps clients from asking hosts that are not this server. */
const noDomain = 'e2b.local';
const mebibytesPerGibibyte = 1024;

/** The state of a sandbox; undefined for a box that is none of E2B's states, and so is not shown. */
export function stateOf({ status }: BoxInfo): 'running' | 'paused' | undefined {
  return status === 'running' || status === 'paused' ? status : undefined;
}

/**
 * The name below which a client finds sandboxes. Who asks on this host has one without any set-up: names that end in
 * `localhost` lead to it (RFC 6761, section 6.3).
 */
function domainOf({ domain }: E2bContext, host = ''): string {
  if (domain !== undefined) return domain;
  const [, name, port = ''] = /^(.*?)(:\d+)?$/.exec(host) ?? [];
  return name !== undefined && isLoopback(name.replace(/^\[(.*)\]$/, '$1')) ? `localhost${port}` : noDomain;
}

/**
 * `Sandbox` of E2B's API: what clients need to use one. `host`: the `Host` they asked. Without a domain they would send its
 * token elsewhere.
 */
export function sandboxToJson(ctx: E2bContext, info: BoxInfo, host: string | undefined) {
  const { template, secure, ports } = factsOf(info);
  return {
    templateID: template,
    sandboxID: sandboxIdOf(info.id),
    clientID,
    envdVersion,
    domain: domainOf(ctx, host),
    ...(secure ? { envdAccessToken: tokenOf(ctx, info.id) } : {}),
    ...(ports.allowPublicTraffic ? {} : { trafficAccessToken: trafficTokenOf(ctx, info.id) }),
  };
}

/** When a sandbox ends; one that is paused has ended already. */
function endOf({ endsAt, lifetime, status, updatedAt }: BoxInfo): string {
  if (lifetime > 0 && status === 'paused') return updatedAt.toISOString();
  return endsAt?.toISOString() ?? never;
}

/** `ListedSandbox` of E2B's API. */
export function listedToJson(info: BoxInfo) {
  const { template } = factsOf(info);
  return {
    templateID: template,
    alias: template,
    sandboxID: sandboxIdOf(info.id),
    clientID,
    startedAt: info.createdAt.toISOString(),
    endAt: endOf(info),
    cpuCount: info.cpus,
    memoryMB: info.memoryMiB,
    diskSizeMB: info.diskSizeGb * mebibytesPerGibibyte,
    metadata: metadataOf(info),
    state: stateOf(info),
    envdVersion,
    volumeMounts: info.volumes.map(({ volume, guestPath }) => ({ name: volume, path: guestPath })),
  };
}

/** `SandboxDetail` of E2B's API. */
export function detailToJson(ctx: E2bContext, info: BoxInfo, host: string | undefined) {
  const { autoResume, ports } = factsOf(info);
  const onTimeout = info.lifetimeAction === 'pause' ? 'pause' : 'kill';
  return {
    ...listedToJson(info),
    ...sandboxToJson(ctx, info, host),
    allowInternetAccess: info.network.outbound === 'enabled',
    network: { ...ports, ...egressOf(info.network) },
    lifecycle: { autoResume, onTimeout },
  };
}
