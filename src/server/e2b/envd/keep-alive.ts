import type { HandlerContext } from '@connectrpc/connect';

/** Seconds between signs of life where nothing happens, unless the client asks for others. */
const keepAliveSeconds = 90;
const maxKeepAliveSeconds = 3600;

/** How long a stream may be silent before it gives a sign of life. */
export function keepAliveMsOf({ requestHeader }: Pick<HandlerContext, 'requestHeader'>): number {
  const asked = Number(requestHeader.get('keepalive-ping-interval') ?? keepAliveSeconds);
  return (asked >= 1 ? Math.min(asked, maxKeepAliveSeconds) : keepAliveSeconds) * 1000;
}
