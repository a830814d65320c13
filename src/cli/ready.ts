import { writeSync } from 'node:fs';
import { environmentValue } from '../base/environment.js';
import { isCryoboxError, messageOf } from '../errors.js';
import type { ReadyMessage } from '../home/background.js';

/** Tells the process that started a background engine how the start went, once. */
interface ReadyChannel {
  succeeded(): void;
  failed(error: unknown): void;
}

/** The channel `CRYOBOX_READY_FD` names; without it nobody is told. One line of JSON is written to it. */
export function readyChannel(): ReadyChannel {
  const fd = Number(environmentValue('CRYOBOX_READY_FD') ?? Number.NaN);
  let open = Number.isInteger(fd);
  const say = (message: ReadyMessage) => {
    if (!open) return;
    open = false;
    try {
      writeSync(fd, `${JSON.stringify(message)}\n`);
    } catch {
      // The starter has gone; the engine serves others.
    }
  };
  return {
    succeeded: () => say({ ready: true }),
    failed: (error) => {
      const typed = isCryoboxError(error) ? { code: error.code, hint: error.hint } : { code: 'internal' };
      say({ ready: false, message: messageOf(error), ...typed });
    },
  };
}
