import { readFile } from 'node:fs/promises';
import { packageVersion } from '../../base/version.js';
import { CryoboxError } from '../../errors.js';
import type { ApiKeyInfo } from '../../home/keys.js';
import { createCommand, createGroup } from '../command.js';
import type { Context } from '../context.js';
import { printJson, printListing } from '../listing.js';
import { processLogger } from '../logger.js';
import { formatAge } from '../output/units.js';
import { flag, format, many, several, text, value } from '../specs.js';
import { forEachTarget } from '../targets.js';
import { parseCount, parseDurationMs, parseList } from '../values.js';

export const serve = createCommand({
  name: 'serve',
  summary: 'be the engine of the home and serve the REST API, until Ctrl-C; boxes go on running',
  args: {},
  options: {
    host: text('--host <address>', 'address to listen on (default: 127.0.0.1); others need an API key'),
    port: value('-p, --port <port>', 'port (default: 8100; 0 takes a free one)', parseCount),
    tlsCert: text('--tls-cert <file>', 'certificate, PEM'),
    tlsKey: text('--tls-key <file>', 'key of the certificate, PEM'),
    allowHost: many(
      '--allow-host <names>',
      'names requests without a key may be for, beside localhost; separated by commas',
      parseList,
    ),
    allowOrigin: many(
      '--allow-origin <origins>',
      'web pages that may use the API, such as https://dash.example; separated by commas',
      parseList,
    ),
    allowRegistry: many(
      '--allow-registry <registries>',
      'registries pulls over HTTP may ask although they are not on the public internet; separated by commas',
      parseList,
    ),
    allowAnonymous: flag('--allow-anonymous', 'ask for no key although the home had some, while it has none'),
    previewDomain: text(
      '--preview-domain <domain>',
      'wildcard name that leads here, for previews of ports (default: localhost)',
    ),
    tunnelDomain: text('--tunnel-domain <domain>', 'wildcard name that leads here, for ports of boxes'),
    replicate: text(
      '--replicate <url>',
      'copy boxes that stand still to an object store: a directory or s3://BUCKET/PREFIX?endpoint=URL',
    ),
    e2bDomain: text('--e2b-domain <domain>', 'wildcard name that leads here, for clients of E2B'),
  },
  async handler(context, _, options) {
    const { serveHttp, defaultHome } = await import('../../home/serve-http.js');
    await using served = await serveHttp({
      home: context.connection.home ?? defaultHome(),
      logger: await processLogger(),
      ...(options.replicate === undefined ? {} : { replicate: { address: options.replicate } }),
      listen: { host: options.host, port: options.port },
      tls: await readTls(options.tlsCert, options.tlsKey),
      previewDomain: options.previewDomain,
      tunnelDomain: options.tunnelDomain,
      e2bDomain: options.e2bDomain,
      allowedHosts: options.allowHost.flat(),
      allowedOrigins: options.allowOrigin.flat(),
      allowedRegistries: options.allowRegistry.flat(),
      allowAnonymous: options.allowAnonymous,
      version: packageVersion(),
    });
    await context.stdout.line(served.address.url);
    if (!served.authenticated) await context.stderr.line('no API keys: anybody on this host may use it');
    else if (!served.hasKeys) {
      await context.stderr.line('all API keys are revoked: nobody is let in until `cryobox keys create`');
    }
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
    e2b: flag('--e2b', "one for E2B's clients; prints the environment in which they find this host"),
    expires: value('--expires <duration>', 'ends after this time (default: never)', parseDurationMs),
    format,
  },
  async handler(context, _, { name, tenant, scopes, e2b, expires, format }) {
    await using keys = await openKeys(context);
    const wanted = scopes.length > 0 ? scopes.flat() : undefined;
    const made = await keys.create({
      name,
      tenant,
      scopes: wanted,
      expiresInMs: expires,
      form: e2b ? 'e2b' : 'cryobox',
    });
    if (format === 'json') await printJson(context, made);
    else if (e2b) for (const line of environmentOf(made.key)) await context.stdout.line(line);
    else await context.stdout.line(made.key);
  },
});

/** Where `serve` listens when it is told nothing. */
const defaultUrl = 'http://127.0.0.1:8100';

/** What E2B's clients need to find a server, for a shell. */
function environmentOf(key: string): string[] {
  return [
    `export E2B_API_KEY=${key}`,
    `export E2B_API_URL=${defaultUrl}`,
    `export E2B_SANDBOX_URL=${defaultUrl}`,
  ];
}

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
