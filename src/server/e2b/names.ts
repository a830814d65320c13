import { isId } from '../../base/ids.js';

const boxPrefix = 'box_';
/** Begins every id of a sandbox, as clients know them. */
const sandboxPrefix = 'i';

/** The id of a box as E2B's clients know it: a label of a host name, so without `_` and `-`. */
export function sandboxIdOf(boxId: string): string {
  return sandboxPrefix + boxId.slice(boxPrefix.length);
}

/** The id of the box behind a sandbox's id; what follows a `-` is of no meaning. Undefined when it cannot be one. */
export function boxIdOf(sandboxId: string): string | undefined {
  const [id = ''] = sandboxId.split('-');
  const boxId = boxPrefix + id.slice(sandboxPrefix.length);
  return id.startsWith(sandboxPrefix) && isId('box', boxId) ? boxId : undefined;
}
