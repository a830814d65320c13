import type { IncomingMessage } from 'node:http';

/**
 * Ends the connection of a request that was answered while its body was still coming, unless the rest comes in time: the
 * client may go on sending for so long, so that it sees the answer. A connection whose body came serves its next requests.
 */
export function limitUnreadBody(request: IncomingMessage, ms: number): void {
  if (request.complete) return;
  setTimeout(() => {
    if (!request.complete) request.destroy();
  }, ms).unref();
}
