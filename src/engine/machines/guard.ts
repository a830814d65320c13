import { CryoboxError } from '../../errors.js';
import { architectureOf } from '../../machine/index.js';
import { findGoldenOfMemory, type GoldenRow, type MemoryRow } from '../../store/index.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from './context.js';
import type { Golden } from './golden.js';
import type { LiveBox } from './live.js';
import { shapeOfState } from './shapes.js';

/** What a memory must agree in with the machines of this engine. */
type GuardFacts = Pick<MemoryRow, 'qemu_version' | 'machine_type' | 'cpu_model' | 'accelerator' | 'devices'>;

const words: Readonly<Record<keyof GuardFacts, string>> = {
  qemu_version: 'QEMU version',
  machine_type: 'machine type',
  cpu_model: 'cpu model',
  accelerator: 'accelerator',
  devices: 'list of devices',
};

/** What of a machine is written down with its memory. */
type MachineFacts = GuardFacts & Pick<MemoryRow, 'kernel_version' | 'assets_key'>;

/** Facts about a running machine, which an earlier installation may have started. */
export async function machineFacts(ctx: MachinesContext, { memory }: LiveBox): Promise<MachineFacts> {
  if (memory.memoryId !== null) {
    const { qemu_version, machine_type, cpu_model, accelerator, devices, kernel_version, assets_key } =
      await requireMemory(ctx.db, memory.memoryId);
    return { qemu_version, machine_type, cpu_model, accelerator, devices, kernel_version, assets_key };
  }
  const golden = await findGoldenOfMemory(ctx.db, memory.baseLayer ?? '');
  if (golden) return goldenFacts(golden);
  throw new CryoboxError('invalid_state', 'the machine was started by an earlier installation of Cryobox', {
    hint: 'Stop the box and start it again.',
  });
}

function goldenFacts(golden: GoldenRow): MachineFacts {
  const { qemu_version, machine_type, devices, kernel_version, assets_key } = golden;
  const accelerator = golden.accelerator === 'kvm' ? 'kvm' : 'tcg';
  const cpu_model = architectureOf(shapeOfState(golden).architecture).cpuModel[accelerator];
  return { qemu_version, machine_type, cpu_model, accelerator, devices, kernel_version, assets_key };
}

/** The golden machine of a memory's shape. Throws `invalid_state`, naming what differs, when it cannot go on here. */
export async function compatibleGolden(ctx: MachinesContext, memory: MemoryRow): Promise<Golden> {
  // Before anything else: with another QEMU the golden machine itself would have to be made first.
  const shape = shapeOfState(memory);
  const { qemu } = await ctx.parts.of(shape.architecture);
  refuse(memory, { qemu_version: qemu.version });
  const golden = await ctx.goldens.get(shape);
  const { kernel_version: _kernel, assets_key: _assets, ...facts } = goldenFacts(golden.row);
  refuse(memory, facts);
  return golden;
}

function refuse(memory: MemoryRow, here: Partial<GuardFacts>): void {
  const names = Object.keys(here) as (keyof GuardFacts)[];
  const differing = names.filter((name) => here[name] !== memory[name]);
  if (differing.length === 0) return;
  const list = differing.map((name) => `${words[name]} ${memory[name]}, and here it is ${here[name]}`);
  throw new CryoboxError('invalid_state', `the memory was saved with ${list.join('; ')}`, {
    hint: 'Start the box from its disks with discardMemory.',
    details: { memory: memory.id, differs: differing },
  });
}
