import { withoutUserNetwork } from '../../formats/qemu-stream/index.js';
import { type Card, loadState, type Machine } from '../../machine/index.js';
import type { Golden } from './golden.js';

/** Lets a waiting machine, which has a golden machine's memory already, go on from it. Throws `machine_failed`. */
export async function loadGolden(machine: Machine, golden: Golden, card: Card): Promise<void> {
  await loadState(machine.qmp, machine.directory, {
    ignoreShared: true,
    write: async (socket) => {
      socket.write(card === 'gateway' ? withoutUserNetwork(golden.state) : golden.state);
    },
  });
  await machine.run();
}
