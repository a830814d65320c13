import { setTimeout as delay } from 'node:timers/promises';
import type { Box, WaitForPortOptions } from '../api/index.js';
import { throwIfCancelled } from '../base/abort.js';
import { CryoboxError, isCryoboxError } from '../errors.js';

const defaultTimeoutMs = 30_000;
/** Nothing tells that a program in the box has begun to listen. */
const askAgainMs = 100;

/** Waits until a TCP port of a box takes connections. Throws `timeout`, `cancelled`, and what `dial` throws for others. */
export async function waitForPort(
  box: Pick<Box, 'dial' | 'id'>,
  port: number,
  { timeoutMs = defaultTimeoutMs, signal }: WaitForPortOptions = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    throwIfCancelled(signal, `the wait for port ${port}`);
    try {
      await (await box.dial(port, { signal })).close();
      return;
    } catch (error) {
      if (!isCryoboxError(error, 'network_unavailable')) throw error;
      if (performance.now() > deadline) {
        throw new CryoboxError(
          'timeout',
          `nothing listens on port ${port} of box ${box.id} within ${timeoutMs} ms`,
          {
            cause: error,
            hint: 'Look whether the server runs and which port and address it listens on; raise timeoutMs.',
          },
        );
      }
    }
    await delay(askAgainMs, undefined, { signal }).catch(() => undefined);
  }
}
