/** What is told of a file system that cannot be read. */
import { CryoboxError } from '../../../errors.js';

/** The error for a file system whose bytes contradict themselves: `disk_image_invalid`. `what` names the disk. */
export function damaged(what: string, problem: string): CryoboxError {
  return new CryoboxError('disk_image_invalid', `the file system of ${what}: ${problem}`, {
    hint: 'Start the box and let e2fsck look at its disk, or compare states from before the damage.',
  });
}

/** The error for a file system with features that are not read: `disk_image_invalid`, with their names. */
export function notUnderstood(what: string, features: readonly string[]): CryoboxError {
  return new CryoboxError(
    'disk_image_invalid',
    `the file system of ${what} uses what is not read here: ${features.join(', ')}`,
    { hint: 'Compare the files by a command in the box.', details: { features: [...features] } },
  );
}

/** The error for a file system that takes more than is given to reading one: `resource_exhausted`. */
export function tooMuch(what: string, problem: string): CryoboxError {
  return new CryoboxError('resource_exhausted', `the file system of ${what}: ${problem}`, {
    hint: 'Compare the files by a command in the box.',
  });
}
