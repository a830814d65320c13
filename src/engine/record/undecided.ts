import { type OperationName, ruleOf } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';

/**
 * Whether somebody has to say which state of a box counts: its machine was lost before it had all of its memory, so there
 * are the memory with the disks of its moment, and newer disks without a memory.
 */
export function isUndecided({ status, failure }: Pick<BoxRow, 'status' | 'failure'>): boolean {
  return status === 'paused' && failure !== null;
}

/** What `failure` says of a box that has become undecided. */
export function undecidedFailure(reason: string): string {
  return (
    `${reason}, before the machine had all of its memory; the box is paused again. ` +
    'What was written to its disks since it was resumed is kept until it is decided what counts'
  );
}

/** Throws `stopped`, naming the failure and what decides, when the operation does not go with an undecided box. */
export function refuseUndecided(operation: OperationName, row: BoxRow): void {
  if (!isUndecided(row) || ruleOf(operation).undecided !== 'refused') return;
  throw new CryoboxError(
    'stopped',
    `cannot ${operation} before it is decided how the box goes on: ${row.failure}`,
    {
      hint:
        `Start it from its newest disks, without its memory: start with discardMemory, ` +
        `\`cryobox start --discard-memory ${row.name ?? row.id}\`. Or resume it from its memory and drop what it wrote ` +
        `to its disks since: resume, \`cryobox resume ${row.name ?? row.id}\`.`,
      details: { box: row.id, status: row.status, failure: row.failure },
    },
  );
}
