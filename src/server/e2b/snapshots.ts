import { randomBytes } from 'node:crypto';
import type { BoxInfo, Runtime, TemplateInfo } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { factsOf } from './facts.js';
import { sandboxIdOf } from './names.js';

/** Labels of the templates that are snapshots. */
const labels = { source: 'e2b.snapshot-of', template: 'e2b.template', name: 'e2b.name' } as const;
/** The tag of a name without one. */
const defaultTag = 'default';
/** `[NAMESPACE/]NAME[:TAG]`. */
const namePattern = /^(?:([a-z0-9_-]{1,64})\/)?([a-z0-9_-]{1,128})(?::([a-z0-9_.-]{1,64}))?$/;

/** A sandbox as it was once: a template of the home. */
export interface Snapshot {
  /** As clients know it. */
  readonly id: string;
  /** What it was given, with its namespace. */
  readonly names: readonly string[];
  /** The sandbox it was taken of. */
  readonly source: string;
  /** The template that sandbox was made from. */
  readonly base: string;
  readonly template: TemplateInfo;
}

/** The namespace of a tenant: the only one that its names can have. */
export function namespaceOf(tenant: string): string {
  return tenant.toLowerCase().replaceAll(/[^a-z0-9_-]/g, '-') || 'default';
}

/** `NAME:TAG` of a name. Throws `invalid_argument` for one that is none, or in the namespace of others. */
function fullName(name: string, tenant: string): string {
  const [, namespace, alias, tag = defaultTag] = namePattern.exec(name.toLowerCase()) ?? [];
  if (alias === undefined) {
    throw new CryoboxError(
      'invalid_argument',
      `${JSON.stringify(name.slice(0, 80))} is no name of a snapshot, expected NAME or NAME:TAG`,
      { hint: 'Names hold letters, digits, "-" and "_".' },
    );
  }
  if (namespace === undefined || namespace === namespaceOf(tenant)) return `${alias}:${tag}`;
  throw new CryoboxError('invalid_argument', `the namespace ${JSON.stringify(namespace)} is not yours`, {
    hint: `Leave it out, or use ${namespaceOf(tenant)}.`,
  });
}

function snapshotOf(template: TemplateInfo, tenant: string): Snapshot | undefined {
  const source = template.labels[labels.source];
  if (source === undefined) return undefined;
  const name = template.labels[labels.name];
  const namespace = namespaceOf(tenant);
  return {
    id: name === undefined ? `${template.name}:${defaultTag}` : `${namespace}/${name}`,
    names: name === undefined ? [] : [`${namespace}/${name.slice(0, name.indexOf(':'))}`],
    source,
    base: template.labels[labels.template] ?? template.image,
    template,
  };
}

/** All snapshots of a tenant, the newest first. */
export async function snapshotsOf(
  runtime: Runtime,
  tenant: string,
  signal?: AbortSignal,
): Promise<Snapshot[]> {
  const templates = await runtime.templates.list({ signal });
  return templates.flatMap((template) => snapshotOf(template, tenant) ?? []).reverse();
}

/** Whether a snapshot is what a name or an id means: an id of one without a name, or a name, with any tag where it has none. */
export function isNamed({ id, names }: Snapshot, asked: string): boolean {
  const wanted = asked.toLowerCase();
  const bare = (text: string): string => text.slice(text.indexOf('/') + 1);
  return [id, bare(id), ...names, ...names.map(bare)].includes(wanted);
}

/** The snapshot of that id, or name and tag; undefined when there is none. */
export async function findSnapshot(
  runtime: Runtime,
  tenant: string,
  asked: string,
): Promise<Snapshot | undefined> {
  const [, , , tag] = namePattern.exec(asked.toLowerCase()) ?? [];
  const wanted = tag === undefined ? `${asked}:${defaultTag}` : asked;
  return (await snapshotsOf(runtime, tenant)).find((each) => isNamed(each, wanted));
}

/** Takes a snapshot of a sandbox that runs, and goes on meanwhile. It takes the place of one with the same name and tag. */
export async function takeSnapshot(
  runtime: Runtime,
  tenant: string,
  info: BoxInfo,
  { name, signal }: { readonly name: string | undefined; readonly signal: AbortSignal },
): Promise<Snapshot> {
  const full = name === undefined ? undefined : fullName(name, tenant);
  const made = await runtime.templates.create({
    box: info.id,
    name: `snapshot-${randomBytes(8).toString('hex')}`,
    labels: {
      [labels.source]: sandboxIdOf(info.id),
      [labels.template]: factsOf(info).template,
      ...(full === undefined ? {} : { [labels.name]: full }),
    },
    signal,
  });
  for (const { template } of await snapshotsOf(runtime, tenant)) {
    if (full === undefined || template.labels[labels.name] !== full || template.name === made.name) continue;
    if (template.createdAt <= made.createdAt) await removeIfThere(runtime, template.name);
  }
  const snapshot = snapshotOf(made, tenant);
  if (snapshot) return snapshot;
  throw new CryoboxError('internal', `the template ${made.name} has not the labels it was made with`);
}

async function removeIfThere(runtime: Runtime, name: string): Promise<void> {
  if (await runtime.templates.get(name)) await runtime.templates.remove(name);
}

/** Deletes a snapshot. Throws `invalid_argument` while a sandbox made from it exists. */
export async function deleteSnapshot(
  runtime: Runtime,
  { id, template }: Snapshot,
  signal: AbortSignal,
): Promise<void> {
  const users = (await runtime.list({ signal })).filter((box) => box.template === template.name);
  const [user] = users;
  if (user) {
    throw new CryoboxError(
      'invalid_argument',
      `cannot delete ${id} while sandboxes made from it exist (${users.length}, such as ${sandboxIdOf(user.id)})`,
      { hint: 'Kill them first.' },
    );
  }
  await runtime.templates.remove(template.name, { signal });
}
