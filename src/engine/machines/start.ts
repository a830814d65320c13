import { randomBytes } from 'node:crypto';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, type ErrorCode, isCryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import type { Card } from '../../machine/index.js';
import {
  type BoxRow,
  changeHeads,
  insertBox,
  insertLayers,
  insertPorts,
  type LayerRow,
  putSecrets,
  requireLayer,
  type SecretRow,
} from '../../store/index.js';
import { roomOf } from '../core/limits.js';
import type { TakenPorts } from '../core/published-ports.js';
import { Stages } from '../core/stages.js';
import { endOfRun } from '../record/config.js';
import { configOf } from '../record/rows.js';
import { mountVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import { insertAttachments } from '../volumes/attachments.js';
import type { MachinesContext } from './context.js';
import { limitNewMachine } from './disk-limits.js';
import { endFormerMachines } from './former.js';
import { cardOf } from './gateways.js';
import type { Golden } from './golden.js';
import { guestNetwork, hostnameOf, hostsFile, newMac } from './identity.js';
import { type LiveBox, newLiveBox } from './live.js';
import { startMain } from './main.js';
import { goldenSpec } from './pool.js';
import { goldenSource, restoreMachine } from './restore.js';
import { recordRunning, takeIntoUse } from './running.js';
import { shapeOfBox } from './shapes.js';
import { installTrust } from './trust.js';

const bytesPerGb = 1024 ** 3;

/** Failures that say themselves what to do; all others are the machine's. */
const toldAsTheyAre = ['cancelled', 'invalid_state', 'disk_full', 'resource_exhausted'] as const;

/** What keeps a main command from running: its owner has to change that. */
const mainFailures = [
  'command_not_found',
  'command_not_executable',
  'cwd_not_found',
  'user_not_found',
  'execution_failed',
  'payload_too_large',
] as const;

/** What is told when a box does not come up; `what` names the step, such as `start box box_1`. */
export function bringUpFailure(error: unknown, what: string, alsoTold: readonly ErrorCode[] = []): unknown {
  if ([...toldAsTheyAre, ...alsoTold].some((code) => isCryoboxError(error, code))) return error;
  return new CryoboxError('machine_failed', `cannot ${what}: ${messageOf(error)}`, { cause: error });
}

/** Gives a box a machine: restores the golden machine of its shape on the box's disks and volumes. Throws
 * `machine_failed`, `conflict` when another box has one of its volumes, `invalid_state` when one cannot be mounted, `resource_exhausted`, `cancelled` when the
 * signal is raised before the box is up: it has no machine then. */
export async function startBox(ctx: MachinesContext, row: BoxRow, signal?: AbortSignal): Promise<LiveBox> {
  // Two machines on one disk would destroy it.
  if (ctx.live.get(row.id)) throw new CryoboxError('internal', `box ${row.id} has a machine already`);
  const stages = new Stages();
  const started = performance.now();
  await endFormerMachines(ctx, row.id);
  using claim = await ctx.volumes.claim(row);
  using _ = await ctx.limits.enter(row);
  const { attachments: volumes } = claim;
  const golden = await ctx.goldens.get(shapeOfBox(row));
  const guestHead = await guestHeadFor(ctx, row, golden);
  const { network } = configOf(row);
  const card = cardOf(ctx, network);
  throwIfCancelled(signal, 'the start of a box');
  stages.record('prepare', performance.now() - started);
  const heads = { guest: guestHead, disk: row.disk_head };
  await ctx.layers.sync([guestHead, row.disk_head]);
  const restored = await restoreMachine(ctx, {
    source: goldenSource(ctx, golden, card),
    heads,
    volumes,
    gatewayOf: card === 'gateway' ? row : undefined,
    onStage: stages.record,
  });
  const { id: machineId, machine, agent, gateway } = restored;
  try {
    throwIfCancelled(signal, 'the start of a box');
    const configuring = performance.now();
    const run = await configure(agent, row, card);
    await mountVolumes(agent, volumes);
    // From its own first instruction on; what comes before is our doing.
    await limitNewMachine(machine, row);
    await installTrust(ctx, agent, row);
    await startMain(agent, row);
    stages.record('configure', performance.now() - configuring);
    stages.record('total', performance.now() - started);
    // The last moment at which it can be undone: from the next step on the box runs.
    throwIfCancelled(signal, 'the start of a box');
    const memory = { baseLayer: golden.row.ram_layer, memoryId: null };
    const live = newLiveBox({ boxId: row.id, machineId, machine, agent, run, memory, gateway });
    await recordRunning(ctx, live, {
      heads,
      holds: [golden.row.ram_layer],
      stages: stages.ms,
      isNewRun: true,
      endsAt: endOfRun(configOf(row)),
    });
    await takeIntoUse(ctx, live, { ...row, main_exit: null });
    if (card !== 'closed') ctx.pool.refill(goldenSpec(golden, card));
    ctx.hot.refill(golden, card);
    return live;
  } catch (error) {
    agent.close();
    await ctx.pool.giveUp(restored);
    throw bringUpFailure(error, `start box ${row.id}`, mainFailures);
  }
}

/** The guest disk belongs to the golden machine: a box gets a new one when the golden machine of its shape changed. */
async function guestHeadFor(ctx: MachinesContext, row: BoxRow, golden: Golden): Promise<string> {
  if (row.golden_key === golden.key) return row.guest_head;
  const head = await ctx.layers.newHead(await requireLayer(ctx.db, golden.row.guest_layer));
  await ctx.commits.run(async (tx) => {
    await insertLayers(tx, [head]);
    const heads = { guest_head: head.id, disk_head: row.disk_head };
    await changeHeads(tx, row.id, { ...heads, golden_key: golden.key });
  });
  return head.id;
}

/** Identity, root file system and network, in one exchange with the agent. Returns the number of this run. */
async function configure(agent: AgentClient, row: BoxRow, card: Card): Promise<string> {
  const hostname = hostnameOf(row);
  const { run } = await agent.system.configure({
    identity: { hostname, machineId: randomBytes(16).toString('hex'), mac: newMac() },
    root: { growToBytes: row.disk_size_gb * bytesPerGb, hosts: hostsFile(hostname) },
    network: card !== 'closed' ? guestNetwork : { disabled: true },
  });
  if (run === null) throw new CryoboxError('machine_failed', 'the agent mounted no root');
  return run;
}

/** Rows and files of the two heads of a new box; nothing is stored yet. */
export async function newHeads(
  ctx: MachinesContext,
  golden: Golden,
  disk: LayerRow,
  diskSizeGb: number,
): Promise<{ guest: LayerRow; disk: LayerRow }> {
  const guestBase = await requireLayer(ctx.db, golden.row.guest_layer);
  return {
    guest: await ctx.layers.newHead(guestBase),
    disk: await ctx.layers.newHead(disk, Math.max(disk.virtual_bytes, diskSizeGb * bytesPerGb)),
  };
}

/** Stores a new box with its heads in one commit. Throws `resource_exhausted`. */
export async function insertBoxWithVolumes(
  ctx: MachinesContext,
  row: BoxRow,
  heads: { guest: LayerRow; disk: LayerRow },
  volumes: readonly Attachment[],
  ports: TakenPorts,
  secrets: readonly SecretRow[],
): Promise<void> {
  await ctx.commits.run(async (tx) => {
    await ctx.limits.admit(tx, row.tenant, roomOf(row));
    await insertBox(tx, row, [heads.guest, heads.disk]);
    await insertAttachments(tx, row.id, volumes);
    await insertPorts(tx, ports.rowsFor(row.id));
    await putSecrets(tx, secrets);
  });
}
