import {
  architectureOfMachineType,
  firstArchitecture,
  hostArchitecture,
  type MachineShape,
} from '../../machine/index.js';
import type { BoxRow, GoldenRow, MemoryRow } from '../../store/index.js';
import { configOf } from '../record/rows.js';

/** The shape of a box's machine. */
export function shapeOfBox(row: Pick<BoxRow, 'config' | 'cpus' | 'memory_mib'>): MachineShape {
  const architecture = configOf(row).architecture ?? firstArchitecture;
  return { architecture, cpus: row.cpus, memoryMiB: row.memory_mib };
}

/**
 * The shape of the machine that a memory or a golden machine is of: the machine type says its architecture. One of no known
 * type has the host's, and is refused where it is compared.
 */
export function shapeOfState(
  row: Pick<MemoryRow | GoldenRow, 'machine_type' | 'cpus' | 'memory_mib'>,
): MachineShape {
  const architecture = (architectureOfMachineType(row.machine_type) ?? hostArchitecture()).name;
  return { architecture, cpus: row.cpus, memoryMiB: row.memory_mib };
}
