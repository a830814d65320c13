import { once } from 'node:events';
import type { ServerChannel } from 'ssh2';
import type { PortConnection } from '../api/index.js';
import { ChannelWriter, chunksOf } from './channel-writer.js';

/** How a box is called by clients that forward a port: an agent connects to the box itself, and to nothing else. */
const localNames: readonly string[] = ['localhost', 'ip6-localhost', '127.0.0.1', '::1'];

/** Whether an address a client wants to reach is the box itself. */
export function isBoxItself(address: string): boolean {
  return localNames.includes(address.toLowerCase());
}

/** Carries bytes between a channel and a port of the box until both directions have ended, or the channel is closed. */
export async function carryForward(
  channel: ServerChannel,
  port: PortConnection,
  ended: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  channel.on('error', leave);
  // The end of a channel that nobody reads is told by its second output only, which a forward does not use.
  channel.stderr.once('finish', leave);
  ended.addEventListener('abort', leave, { once: true });
  const closed = gone.signal.aborted ? Promise.resolve() : once(gone.signal, 'abort');
  const writer = new ChannelWriter(channel, gone.signal);
  const fromBox = async (): Promise<void> => {
    await writer.pipe('stdout', port.output);
    channel.eof();
  };
  const toBox = async (): Promise<void> => {
    try {
      for await (const chunk of chunksOf(channel)) await port.input.write(chunk);
      await port.input.end();
    } catch {
      // The program takes no more: its answer is still wanted.
      channel.resume();
    }
  };
  try {
    await Promise.race([Promise.all([fromBox(), toBox()]), closed]);
  } finally {
    ended.removeEventListener('abort', leave);
    gone.abort();
    channel.destroy();
    await port.close();
  }
}
