import { readFile } from 'node:fs/promises';
import { CryoboxError } from '../../errors.js';
import type { ApiKeyInfo } from '../../home/keys.js';
import { createCommand, createGroup } from '../command.js';
import type { Context } from '../context.js';
import { printJson, printListing } from '../listing.js';
import { processLogger } from '../logger.js';
import { formatAge } from '../output/units.js';
import { format, many, several, text, value } from '../specs.js';
import { forEachTarget } from '../targets.js';
import { parseCount, parseDurationMs, parseList } from '../values.js';
import { packageVersion } from '../version.js';

export const serve = createCommand({
  name: 'serve',
  summary: 'be the engine of the home and serve the REST API, until Ctrl-C; boxes go on running',
  args: {},
  options: {
    host: text('--host <address>', 'address to listen on (default: 127.0.0.1); others need an API key'),
    port: value('-p, --port <port>', 'port (default: 8100; 0 takes a free one)', parseCount),
    tlsCert: text('--tls-cert <file>', 'certificate, PEM'),
    tlsKey: text('--tls-key <file>', 'key of the certificate, PEM'),
    tunnelDomain: text('--tunnel-domain <domain>', 'wildcard name that leads here, for ports of boxes'),
  },
  async handler(context, _, options) {
    const { serveHttp, defaultHome } = await import('../../home/serve-http.js');
    await using served = await serveHttp({
      home: context.connection.home ?? defaultHome(),
      logger: await processLogger(),
      listen: { host: options.host, port: options.port },
      tls: await readTls(options.tlsCert, options.tlsKey),
      tunnelDomain: options.tunnelDomain,
      version: packageVersion(),
    });
    await context.stdout.line(served.address.url);
    if (!served.authenticated) await context.stderr.line('no API keys: anybody on this host may use it');
    await context.interrupts.wait();
  },
});

async function readTls(
  certFile: string | undefined,
  keyFile: string | undefined,
): Promise<{ cert: Buffer; key: Buffer } | undefined> {
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new CryoboxError('invalid_argument', '--tls-cert and --tls-key belong together');
  }
  return { cert: await readFile(certFile), key: await readFile(keyFile) };
}

const createKey = createCommand({
  name: 'create',
  summary: 'make an API key and print it; it is not shown again',
  args: {},
  options: {
    name: text('--name <name>', 'what it is for'),
    tenant: text('--tenant <prefix>', 'whose boxes it opens; also the path prefix (default: none)'),
    scopes: many(
      '--scopes <scopes>',
      'what it may do, separated by commas (default: all but admin)',
      parseList,
    ),
    expires: value('--expires <duration>', 'ends after this time (default: never)', parseDurationMs),
    format,
  },
  async handler(context, _, { name, tenant, scopes, expires, format }) {
    await using keys = await openKeys(context);
    const wanted = scopes.length > 0 ? scopes.flat() : undefined;
    const made = await keys.create({ name, tenant, scopes: wanted, expiresInMs: expires });
    if (format === 'json') await printJson(context, made);
    else await context.stdout.line(made.key);
  },
});

const listKeys = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list API keys',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    await using keys = await openKeys(context);
    await printListing(context, format, await keys.list(), [
      { header: 'ID', cell: (it: ApiKeyInfo) => it.id },
      { header: 'NAME', cell: (it) => it.name },
      { header: 'TENANT', cell: (it) => it.tenant },
      { header: 'SCOPES', cell: (it) => it.scopes.join(',') },
      { header: 'CREATED', cell: (it) => formatAge(it.createdAt) },
      { header: 'EXPIRES', cell: (it) => it.expiresAt?.toISOString() ?? 'never' },
    ]);
  },
});

const removeKeys = createCommand({
  name: 'rm',
  summary: 'revoke API keys',
  args: { ids: several('id', 'ids of keys') },
  options: {},
  async handler(context, { ids }) {
    await using keys = await openKeys(context);
    return await forEachTarget(context, ids, async (id) => {
      await keys.remove(id);
      return id;
    });
  },
});

async function openKeys({ connection }: Context) {
  if (connection.url !== undefined) {
    throw new CryoboxError('unsupported', 'API keys are made on the host of the server, not over --url');
  }
  const { ApiKeys, defaultHome } = await import('../../home/keys.js');
  return await ApiKeys.open(connection.home ?? defaultHome());
}

export const keys = createGroup({
  name: 'keys',
  summary: 'API keys of the server: make, list, revoke',
  commands: [createKey, listKeys, removeKeys],
});
