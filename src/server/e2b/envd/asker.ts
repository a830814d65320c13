import { createContextKey, type HandlerContext } from '@connectrpc/connect';
import type { Box } from '../../../api/index.js';
import { CryoboxError } from '../../../errors.js';

/** Who calls a method of a sandbox, and which sandbox. */
export interface Asker {
  readonly sandboxId: string;
  readonly box: Box;
  /** The user of the box as which it is done. */
  readonly userName: string;
  /** Environment of every process of the sandbox, beside that of the box. */
  readonly env: Readonly<Record<string, string>>;
}

/** Where the asker of a call is found. */
export const askerKey = createContextKey<Asker | undefined>(undefined);

/** Who calls. */
export function askerOf({ values }: Pick<HandlerContext, 'values'>): Asker {
  const asker = values.get(askerKey);
  if (asker) return asker;
  throw new CryoboxError('internal', 'the call has no asker');
}
