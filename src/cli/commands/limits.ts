import { InvalidArgumentError } from 'commander';
import type { ResourceUse } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { LimitName, LimitOwner } from '../../home/limits.js';
import { createCommand, createGroup } from '../command.js';
import type { Context } from '../context.js';
import { printListing } from '../listing.js';
import { flag, format, several, text } from '../specs.js';
import { parseCount, parseDiskGb, parseMemoryMiB } from '../values.js';

/** What limits are called on the command line, and how their values are written. */
const names: Readonly<
  Record<string, { readonly name: LimitName; readonly parse: (text: string) => number }>
> = {
  boxes: { name: 'boxes', parse: parseCount },
  running: { name: 'runningBoxes', parse: parseCount },
  cpus: { name: 'cpus', parse: parseCount },
  memory: { name: 'memoryMiB', parse: parseMemoryMiB },
  disk: { name: 'diskGb', parse: parseDiskGb },
  snapshots: { name: 'snapshots', parse: parseCount },
  executions: { name: 'executions', parse: parseCount },
  'memory-overcommit': { name: 'memoryOvercommit', parse: parseFactor },
  'disk-free': { name: 'freeDiskMiB', parse: parseMemoryMiB },
};

function parseFactor(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('Expected a number such as 1.5.');
  return Number(text);
}

const owner = {
  tenant: text('--tenant <prefix>', 'of this tenant (default: of the whole home)'),
  eachTenant: flag('--each-tenant', 'of each tenant that has no other'),
};

function ownerOf({ tenant, eachTenant }: { tenant: string | undefined; eachTenant: boolean }): LimitOwner {
  if (tenant !== undefined && eachTenant) {
    throw new CryoboxError('invalid_argument', '--tenant and --each-tenant are not given together');
  }
  if (eachTenant) return 'each-tenant';
  return tenant === undefined ? 'home' : { tenant };
}

function known(word: string) {
  const found = names[word];
  if (found) return found;
  throw new CryoboxError('invalid_argument', `there is no limit ${JSON.stringify(word)}`, {
    hint: `Limits: ${Object.keys(names).join(', ')}.`,
  });
}

function parsed(pair: string): [LimitName, number] {
  const [word = '', value] = pair.split('=', 2);
  const { name, parse } = known(word);
  if (value === undefined) throw new CryoboxError('invalid_argument', `expected ${word}=VALUE, got ${pair}`);
  try {
    return [name, parse(value)];
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new CryoboxError('invalid_argument', `${word}: ${error.message}`);
  }
}

async function openLimits({ connection }: Context) {
  if (connection.url !== undefined) {
    throw new CryoboxError('unsupported', 'limits are set on the host of the server, not over --url');
  }
  const { HomeLimits, defaultHome } = await import('../../home/limits.js');
  return await HomeLimits.open(connection.home ?? defaultHome());
}

const list = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'show what is used, and how much may be',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const runtime = await context.runtime();
    const { uses } = await runtime.metrics({ signal: context.signal });
    await printListing(context, format, uses, [
      { header: 'OF', cell: (it: ResourceUse) => it.scope },
      { header: 'RESOURCE', cell: (it) => wordOf(it.resource) },
      { header: 'USED', cell: (it) => it.used, align: 'right' },
      { header: 'LIMIT', cell: limitOf, align: 'right' },
    ]);
  },
});

const wordOf = (resource: string): string =>
  Object.keys(names).find((word) => names[word]?.name === resource) ?? resource;

function limitOf({ limit, resource }: ResourceUse): string {
  if (limit === null) return '-';
  return resource === 'freeDiskMiB' ? `at least ${limit}` : String(limit);
}

const set = createCommand({
  name: 'set',
  summary: 'set limits, such as `boxes=10 memory=8g`; the engine goes by them at once',
  args: { limits: several('name=value', `limits: ${Object.keys(names).join(', ')}`) },
  options: owner,
  async handler(context, { limits }, options) {
    const values = Object.fromEntries(limits.map(parsed));
    await using home = await openLimits(context);
    await home.set(ownerOf(options), values);
  },
});

const unset = createCommand({
  name: 'unset',
  summary: 'take limits back',
  args: { limits: several('name', 'names of limits') },
  options: owner,
  async handler(context, { limits }, options) {
    const values = Object.fromEntries(limits.map((word) => [known(word).name, null]));
    await using home = await openLimits(context);
    await home.set(ownerOf(options), values);
  },
});

export const limits = createGroup({
  name: 'limits',
  summary: 'what the home and its tenants use and may use: show, set',
  commands: [list, set, unset],
});
