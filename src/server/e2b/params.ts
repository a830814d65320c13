import { z } from 'zod';
import { CryoboxError } from '../../errors.js';
import { boxIdOf } from './names.js';

/** The id of a sandbox in a path, as that of its box. */
export const boxIdParams = z.object({
  id: z.string().transform((id) => {
    const boxId = boxIdOf(id);
    if (boxId !== undefined) return boxId;
    throw new CryoboxError('not_found', missingText(id));
  }),
});

/** What clients are told of a sandbox that is not theirs, or not there. */
export function missingText(id: string): string {
  return `Sandbox "${id}" doesn't exist or you don't have access to it`;
}
