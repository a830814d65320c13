/** A box by SSH: a server on the host's side, over a stream of bytes; nothing for it runs in the box (docs/ssh.md). */
export { accountName } from './account.js';
export { keepKey } from './keys.js';
export { serveSsh } from './server.js';
