import { setTimeout as delay } from 'node:timers/promises';
import { inBackground } from '../../base/in-background.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { type Card, firstQemuWith, type Machine, qemuHas } from '../../machine/index.js';
import {
  Gateway,
  type NetworkConfig,
  needsGateway,
  policyOf,
  rootsOf,
  secretServers,
} from '../../network/index.js';
import { type BoxRow, changeMachine, type MachineChanges, type MachineRow } from '../../store/index.js';
import { configOf, requireRow } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/** One that ended is started again after 0.1 s, then twice as long each time. */
const firstRetryMs = 100;
const maxRetryMs = 5_000;
/** One that has run for so long ended for another reason than the one before it. */
const steadyMs = 30_000;

/**
 * Where the card of a box's machine leads. Throws `unsupported` for a box with lists where QEMU has no card that leads to
 * a gateway.
 */
export function cardOf({ parts }: MachinesContext, network: NetworkConfig): Card {
  if (!needsGateway(network)) return network.outbound === 'enabled' ? 'open' : 'closed';
  const { qemu } = parts.host;
  if (qemuHas('gatewayCard', qemu.version)) return 'gateway';
  const needed = firstQemuWith('gatewayCard');
  throw new CryoboxError(
    'unsupported',
    `allowNet, denyNet and secrets need QEMU ${needed}, this is ${qemu.version}`,
    {
      hint: 'Install a newer QEMU, or leave the lists out.',
    },
  );
}

/**
 * Starts the gateway of a box's machine, with its policy, and has requests with its secrets get their values. Throws
 * `machine_failed`, `config_error`, `resource_exhausted`.
 */
export async function startGateway(ctx: MachinesContext, machine: Machine, box: BoxRow): Promise<Gateway> {
  const policy = await policyOf(ctx.paths.network, configOf(box).network);
  const gateway = await Gateway.start(machine.directory, machine.user);
  try {
    await serveSecrets(ctx, machine, gateway, box);
    await gateway.apply(policy);
    return gateway;
  } catch (error) {
    ctx.interception.forget(gateway);
    await gateway.kill();
    throw error;
  }
}

/** Gives the process that puts secrets in what a box has. Throws `machine_failed`, `config_error`. */
async function serveSecrets(
  ctx: MachinesContext,
  { directory }: Machine,
  gateway: Gateway,
  box: BoxRow,
): Promise<void> {
  const { secrets } = configOf(box);
  if (!secrets) {
    ctx.interception.forget(gateway);
    return;
  }
  const values = await ctx.vault.valuesOf(ctx.db, box.id);
  const given = Object.entries(secrets).map(([name, { placeholder, hosts }]) => ({
    name,
    placeholder,
    servers: secretServers(hosts),
    value: values.get(name) ?? null,
  }));
  const roots = await rootsOf(ctx.paths.network);
  await ctx.interception.serve({ directory, gateway, secrets: given, roots });
}

/** What is stored of a machine's gateway. */
export function gatewayColumns(
  gateway: Gateway | undefined,
): Pick<MachineChanges, 'gateway_pid' | 'gateway_ticks' | 'gateway_token'> {
  return {
    gateway_pid: gateway?.process.pid ?? null,
    gateway_ticks: gateway?.process.startTicks ?? null,
    gateway_token: gateway?.token ?? null,
  };
}

/**
 * The gateway that an earlier engine gave a machine, with the policy as it is stored: that engine may have ended before it
 * was given. Undefined when the machine has none. One that does not answer is ended, and so replaced by who watches it.
 */
export async function adoptGateway(
  ctx: MachinesContext,
  machine: Machine,
  row: MachineRow,
  box: BoxRow,
): Promise<Gateway | undefined> {
  const { gateway_pid: pid, gateway_ticks: startTicks, gateway_token: token } = row;
  if (pid === null || startTicks === null || token === null) return undefined;
  const gateway = Gateway.adopt(machine.directory, { process: { pid, startTicks }, token });
  await applyOrEnd(ctx, machine, gateway, box);
  return gateway;
}

/**
 * Gives a gateway what its box may reach and has. Where that fails the gateway is ended, and nothing leaves the box until
 * another one has the policy that is stored.
 */
export async function applyOrEnd(
  ctx: MachinesContext,
  machine: Machine,
  gateway: Gateway,
  box: BoxRow,
): Promise<void> {
  try {
    await serveSecrets(ctx, machine, gateway, box);
    await gateway.apply(await policyOf(ctx.paths.network, configOf(box).network));
  } catch (error) {
    ctx.logger.warn('a gateway did not take its policy', { reason: messageOf(error) });
    await gateway.kill();
  }
}

/** Starts the gateway of a running box again when it has ended: meanwhile nothing leaves the box. */
export function watchGateway(ctx: MachinesContext, live: LiveBox): void {
  if (!live.gateway) return;
  inBackground(keepGateway(ctx, live), `keep the gateway of box ${live.boxId}`, ctx.logger);
}

async function keepGateway(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const isOurs = (): boolean =>
    !ctx.closing.signal.aborted && ctx.live.get(live.boxId) === live && live.leaves === undefined;
  let waitMs = firstRetryMs;
  while (live.gateway) {
    const since = performance.now();
    await live.gateway.exited;
    if (performance.now() - since > steadyMs) waitMs = firstRetryMs;
    // The end of the machine ends its gateway, and is told a moment later.
    await delay(waitMs, undefined, { ref: false });
    waitMs = Math.min(2 * waitMs, maxRetryMs);
    if (!isOurs() || !(await live.machine.isAlive())) return;
    try {
      // An engine may have ended before it wrote down which one it had started.
      await Gateway.endAll(live.machine.directory);
      const gateway = await startGateway(ctx, live.machine, await requireRow(ctx.db, live.boxId));
      live.gateway = gateway;
      // It may have been changed while this one started.
      await applyOrEnd(ctx, live.machine, gateway, await requireRow(ctx.db, live.boxId));
      await changeMachine(ctx.db, live.machineId, gatewayColumns(gateway));
      ctx.logger.warn('the gateway of a box had ended, and was started again', { box: live.boxId });
    } catch (error) {
      ctx.logger.error('cannot start a gateway again', { box: live.boxId, reason: messageOf(error) });
    }
  }
}
