import { CryoboxError, type ErrorCode } from '../../errors.js';

/** Why a box lost its machine. */
export type LeaveReason = keyof typeof reasons;

const reasons = {
  paused: ['invalid_state', 'the box was paused', 'Resume the box; its commands go on then.'],
  stopped: ['invalid_state', 'the box was stopped', 'Start the box and try again.'],
  removed: ['not_found', 'the box was removed', 'Make a new box.'],
  restored: [
    'invalid_state',
    'the box was put back to a snapshot',
    'Try again: the box runs as it was then.',
  ],
  discarded: ['invalid_state', 'the box was started without its memory', 'Start the command again.'],
  died: ['machine_failed', 'the machine ended', undefined],
  closed: ['engine_unavailable', 'the engine was closed', undefined],
} as const satisfies Record<string, readonly [ErrorCode, string, string | undefined]>;

/** What whoever used a box is told when its machine has left: never `cancelled`, which is for their own signal. */
export function leaveError(boxId: string, reason: LeaveReason): CryoboxError {
  const [code, message, hint] = reasons[reason];
  return new CryoboxError(code, `${message} meanwhile`, {
    ...(hint === undefined ? {} : { hint }),
    details: { box: boxId, left: reason },
  });
}
