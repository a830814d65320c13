import { randomBytes } from 'node:crypto';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import { type BoxRow, type Database, hold, holdOnly, type LayerRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { emptyHeadBytes } from '../layer-files.js';
import { type LiveBox, newLiveBox } from '../live.js';
import type { Golden } from '../machines/golden.js';
import { goldenSpec } from '../machines/pool.js';
import { goldenSource, restoreMachine } from '../machines/restore.js';
import { mountVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import { insertAttachments } from '../volumes/attachments.js';
import { guestNetwork, hostnameOf, hostsFile, newMac } from './identity.js';
import { configOf, updateBox } from './rows.js';
import { watchMachine } from './watch.js';

const bytesPerGb = 1024 ** 3;

/** Gives a box a machine: restores the golden machine of its shape on the box's disks and volumes. Throws
 * `machine_failed`, `conflict` when another box has one of its volumes, `invalid_state` when one cannot be mounted. */
export async function startBox(ctx: EngineContext, row: BoxRow): Promise<LiveBox> {
  // Two machines on one disk would destroy it.
  if (ctx.live.get(row.id)) throw new CryoboxError('internal', `box ${row.id} has a machine already`);
  const stages: Record<string, number> = {};
  const onStage = (stage: string, durationMs: number): void => {
    stages[stage] = Math.round(durationMs * 10) / 10;
  };
  const started = performance.now();
  using claim = await ctx.volumes.claim(row);
  const { attachments: volumes } = claim;
  const golden = await ctx.goldens.get({ cpus: row.cpus, memoryMiB: row.memory_mib });
  const guestHead = await guestHeadFor(ctx, row, golden);
  const outbound = configOf(row).network.outbound === 'enabled';
  onStage('prepare', performance.now() - started);
  const heads = { guest: guestHead, disk: row.disk_head };
  await ctx.layers.sync([guestHead, row.disk_head]);
  const source = goldenSource(ctx, golden, outbound);
  const restored = await restoreMachine(ctx, { source, heads, volumes, onStage });
  const { id: machineId, machine, agent } = restored;
  try {
    const configuring = performance.now();
    const run = await configure(agent, row, outbound);
    await mountVolumes(agent, volumes);
    onStage('configure', performance.now() - configuring);
    onStage('total', performance.now() - started);
    await ctx.db.updateTable('machines').set({ box_id: row.id }).where('id', '=', machineId).execute();
    await noteWritten(ctx.db, [guestHead, row.disk_head]);
    await hold(ctx.db, `machine:${machineId}`, [golden.row.ram_layer]);
    const memory = { baseLayer: golden.row.ram_layer, memoryId: null };
    const live = newLiveBox({ boxId: row.id, machineId, machine, agent, run, memory });
    ctx.live.set(live);
    watchMachine(ctx, live);
    await updateBox(ctx, row.id, {
      status: 'running',
      memory_id: null,
      failure: null,
      stages: JSON.stringify(stages),
      last_active_at: Date.now(),
    });
    if (outbound) ctx.pool.refill(goldenSpec(golden, true));
    return live;
  } catch (error) {
    agent.close();
    await machine.kill();
    await ctx.db.deleteFrom('machines').where('id', '=', machineId).execute();
    if (isCryoboxError(error, 'invalid_state')) throw error;
    throw new CryoboxError('machine_failed', `cannot start box ${row.id}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** From now on a machine has written to these heads: recovery must not make them again. */
export async function noteWritten(db: Database, heads: readonly string[]): Promise<void> {
  await db
    .updateTable('layers')
    .set({ size_bytes: emptyHeadBytes })
    .where('id', 'in', heads)
    .where('size_bytes', '=', 0)
    .execute();
}

/** The guest disk belongs to the golden machine: a box gets a new one when the golden machine of its shape changed. */
async function guestHeadFor(ctx: EngineContext, row: BoxRow, golden: Golden): Promise<string> {
  if (row.golden_key === golden.key) return row.guest_head;
  const base = await ctx.db
    .selectFrom('layers')
    .selectAll()
    .where('id', '=', golden.row.guest_layer)
    .executeTakeFirstOrThrow();
  const head = await ctx.layers.newHead(base);
  await ctx.commits.run(async (tx) => {
    await tx.insertInto('layers').values(head).execute();
    await tx
      .updateTable('boxes')
      .set({ guest_head: head.id, golden_key: golden.key })
      .where('id', '=', row.id)
      .execute();
    await holdOnly(tx, `box:${row.id}`, [head.id, row.disk_head]);
  });
  return head.id;
}

/** Identity, root file system and network, in one exchange with the agent. Returns the number of this run. */
async function configure(agent: AgentClient, row: BoxRow, outbound: boolean): Promise<string> {
  const hostname = hostnameOf(row);
  const { run } = await agent.system.configure({
    identity: { hostname, machineId: randomBytes(16).toString('hex'), mac: newMac() },
    root: { growToBytes: row.disk_size_gb * bytesPerGb, hosts: hostsFile(hostname) },
    network: outbound ? guestNetwork : { disabled: true },
  });
  if (run === null) throw new CryoboxError('machine_failed', 'the agent mounted no root');
  return run;
}

/** Rows and files of the two heads of a new box; nothing is stored yet. */
export async function newHeads(
  ctx: EngineContext,
  golden: Golden,
  disk: LayerRow,
  diskSizeGb: number,
): Promise<{ guest: LayerRow; disk: LayerRow }> {
  const guestBase = await ctx.db
    .selectFrom('layers')
    .selectAll()
    .where('id', '=', golden.row.guest_layer)
    .executeTakeFirstOrThrow();
  return {
    guest: await ctx.layers.newHead(guestBase),
    disk: await ctx.layers.newHead(disk, Math.max(disk.virtual_bytes, diskSizeGb * bytesPerGb)),
  };
}

/** Stores a new box with its heads in one commit. */
export async function insertBox(
  ctx: EngineContext,
  row: BoxRow,
  heads: { guest: LayerRow; disk: LayerRow },
  volumes: readonly Attachment[],
): Promise<void> {
  await ctx.commits.run(async (tx) => {
    await tx.insertInto('layers').values([heads.guest, heads.disk]).execute();
    await tx.insertInto('boxes').values(row).execute();
    await insertAttachments(tx, row.id, volumes);
    await hold(tx, `box:${row.id}`, [heads.guest.id, heads.disk.id]);
  });
}
