import { boxLimits } from '../../api/index.js';
import { isTenantPrefix } from '../http/prefix.js';
import { ok, type Route, route } from '../http/route.js';
import { anyObject } from './schemas/resources.js';

/** Concurrent executions promised per box; the agent's own limit lies above. */
const maxConcurrentExecutions = 256;
const idempotencySeconds = 3600;
const prometheusMedia = 'text/plain; version=0.0.4';

const config = {
  defaults: {
    cpus: boxLimits.cpus.default,
    memory_mib: boxLimits.memoryMiB.default,
    disk_size_gb: boxLimits.diskSizeGb.default,
    auto_delete: 0,
  },
  overrides: {},
  capabilities: {
    linux_capabilities_enabled: true,
    network_rate_limit_enabled: true,
    privileged_enabled: false,
    snapshots_enabled: true,
    clone_enabled: true,
    export_enabled: true,
    import_enabled: true,
    pause_enabled: true,
    fork_enabled: true,
    templates_enabled: true,
    max_cpus: boxLimits.cpus.max,
    max_memory_mib: boxLimits.memoryMiB.max,
    max_disk_size_gb: boxLimits.diskSizeGb.max,
    max_concurrent_executions: maxConcurrentExecutions,
    exec_timeout_max_seconds: boxLimits.timerSeconds,
    tty_enabled: true,
    streaming_enabled: true,
    idempotency_key_lifetime: idempotencySeconds,
  },
};

/** What the server is and who asks (v1 contract, sections 1.2 and 1.5). */
export const serviceRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/config',
    operation: 'getConfig',
    summary: 'Defaults, limits and capabilities of the server',
    scope: 'public',
    answer: { status: 200, body: anyObject },
    handle: async () => ok(config),
  }),
  route({
    method: 'GET',
    path: '/me',
    operation: 'getMe',
    summary: 'Who the key stands for',
    scope: 'me:read',
    answer: { status: 200, body: anyObject },
    handle: async ({ principal }) =>
      ok({
        sub: principal.id,
        principal_type: 'service_account',
        scopes: principal.scopes,
        display_name: principal.displayName ?? null,
        path_prefix: isTenantPrefix(principal.tenant) ? principal.tenant : null,
        expires_at: principal.expiresAt?.toISOString() ?? null,
      }),
  }),
  route({
    method: 'GET',
    path: '/openapi.json',
    operation: 'getOpenApi',
    summary: 'This description, OpenAPI 3.1',
    scope: 'public',
    answer: { status: 200, body: anyObject },
    handle: async ({ parts }) => ok(parts.openapi()),
  }),
  route({
    method: 'GET',
    path: '/healthz',
    root: true,
    operation: 'getHealth',
    summary: 'Whether the server answers',
    scope: 'public',
    unlimited: true,
    answer: { status: 200, body: anyObject },
    handle: async ({ parts }) => ok({ status: 'ok', version: parts.version }),
  }),
  route({
    method: 'GET',
    path: '/metrics',
    root: true,
    operation: 'getPrometheus',
    summary: 'Counters and histograms in the text format of Prometheus',
    scope: 'box:read',
    answer: { status: 200, body: prometheusMedia },
    handle: async ({ parts, runtime, signal }) => {
      const text = await parts.metrics.render(await runtime.metrics({ signal }));
      async function* whole(): AsyncGenerator<Uint8Array> {
        yield Buffer.from(text);
      }
      return { bytes: whole(), contentType: prometheusMedia };
    },
  }),
];
