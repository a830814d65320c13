import { randomInt } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { Accelerator } from './architectures.js';
import type { MachineUser } from './launch.js';

/** Users that no distribution and no range for containers gives out (systemd.io, "Users, Groups, UIDs and GIDs"). */
const firstUid = 0x7000_0000;
const uidCount = 0x0100_0000;

/**
 * A user of its own for a machine, so that machines cannot reach each other's processes and files; undefined when
 * the engine is not root and cannot change users. Under KVM the group is that of `/dev/kvm`.
 */
export async function newMachineUser(accelerator: Accelerator): Promise<MachineUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const uid = firstUid + randomInt(uidCount);
  if (accelerator === 'tcg') return { uid, gid: uid };
  return { uid, gid: (await stat('/dev/kvm')).gid };
}
