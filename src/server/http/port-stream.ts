import type { PortConnection } from '../../api/index.js';
import { sendError } from './exec-stream.js';
import type { Inbox } from './inbox.js';
import type { Outbox } from './outbox.js';

/** Text message that ends one direction, as a FIN does. */
const eof = 'eof';

/** Passes on what the client sends, until it says that this was all, or the program in the box takes no more. */
async function fromClient(inbox: Inbox, { input }: PortConnection): Promise<void> {
  for (let message = await inbox.next(); message?.binary; message = await inbox.next()) {
    await input.write(message.bytes);
  }
  await input.end();
}

/** Takes and drops what the client sends, until it says that this was all. */
async function drop(inbox: Inbox): Promise<void> {
  for (let message = await inbox.next(); message?.binary; message = await inbox.next());
}

async function toClient(outbox: Outbox, connection: PortConnection): Promise<void> {
  for await (const chunk of connection.output) await outbox.binary(chunk);
  await outbox.text({ type: eof });
}

/**
 * Carries a TCP connection over a WebSocket, until both directions have ended or the client leaves. Once the program in
 * the box takes no more, the rest is dropped: its answer is still wanted. After that the client is told.
 */
export async function streamPort(outbox: Outbox, inbox: Inbox, connection: PortConnection): Promise<void> {
  const input = fromClient(inbox, connection);
  const dropping = input.catch(() => drop(inbox));
  dropping.catch(() => undefined);
  try {
    const both = toClient(outbox, connection).then(() => input);
    await Promise.race([both, outbox.closed]);
    outbox.close(1000);
  } catch (error) {
    await sendError(outbox, error);
    outbox.close(1011);
  } finally {
    await connection.close().catch(() => undefined);
  }
}
