import { CryoboxError } from '../errors.js';

/** The error for what needs a running box and does not bring one up; `what` names it, such as "a tunnel". */
export function doesNotRun(
  what: string,
  box: { readonly id: string; readonly status: string },
): CryoboxError {
  const { id, status } = box;
  return new CryoboxError('stopped', `the box is ${status}; ${what} does not bring it up`, {
    hint: status === 'paused' ? 'Resume the box first.' : 'Start the box first.',
    details: { box: id, status },
  });
}

/** The error for what needs a main command, of a box that has none. */
export function noMain(box: string): CryoboxError {
  return new CryoboxError('invalid_state', 'the box has no main command', {
    hint: 'Give cmd or entrypoint when a box is made, or run a command in this one.',
    details: { box },
  });
}
