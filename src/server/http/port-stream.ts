import type { PortConnection } from '../../api/index.js';
import { sendError } from './exec-stream.js';
import type { Inbox } from './inbox.js';
import type { Outbox } from './outbox.js';

/** Text message that ends one direction, as a FIN does. */
const eof = 'eof';

/**
 * Passes on what the client sends, until it says that this was all. Once the program in the box takes no more, the rest
 * is dropped: its answer is still wanted.
 */
async function fromClient(inbox: Inbox, { input }: PortConnection): Promise<void> {
  let taken = true;
  for (let message = await inbox.next(); message?.binary; message = await inbox.next()) {
    if (taken) taken = await succeeds(input.write(message.bytes));
  }
  if (taken) await succeeds(input.end());
}

async function succeeds(task: Promise<void>): Promise<boolean> {
  return await task.then(
    () => true,
    () => false,
  );
}

async function toClient(outbox: Outbox, connection: PortConnection): Promise<void> {
  for await (const chunk of connection.output) await outbox.binary(chunk);
  await outbox.text({ type: eof });
}

/** Carries a TCP connection over a WebSocket, until both directions have ended or the client leaves. */
export async function streamPort(outbox: Outbox, inbox: Inbox, connection: PortConnection): Promise<void> {
  const input = fromClient(inbox, connection);
  try {
    await Promise.race([Promise.all([input, toClient(outbox, connection)]), outbox.closed]);
    outbox.close(1000);
  } catch (error) {
    await sendError(outbox, error);
    outbox.close(1011);
  } finally {
    input.catch(() => undefined);
    await connection.close().catch(() => undefined);
  }
}
