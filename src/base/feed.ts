import { type TakenBytes, takeBytes } from './byte-source.js';

/** Where the bytes of stdin go. */
interface Writer {
  write(chunk: Uint8Array): Promise<void>;
  end(): Promise<void>;
}

/** A command that does not read all its stdin, or ends before, is no failure; a source that fails is. */
async function feed(writer: Writer, source: TakenBytes): Promise<void> {
  try {
    for await (const chunk of source) await writer.write(chunk);
    await writer.end();
  } catch {
    if (source.failure) throw source.failure.error;
  }
}

/**
 * Runs a command with `input` ({@link takeBytes}) as its stdin; undefined is none. `run` gives the writer to be fed, and
 * what waits for the command. Rejects at once for what are no bytes, and with what the source fails with. A source that
 * gives nothing more is not waited for once the command has ended.
 */
export async function runWithStdin<T>(
  input: unknown,
  run: () => Promise<{
    readonly writer: Writer | null;
    readonly result: (failed: Promise<never>) => Promise<T>;
  }>,
): Promise<T> {
  const source = input === undefined ? undefined : takeBytes(input, 'stdin');
  try {
    const { writer, result } = await run();
    const failed = new Promise<never>((_resolve, reject) => {
      if (writer && source) feed(writer, source).catch(reject);
    });
    // Whoever waits for the command may have left before.
    failed.catch(() => undefined);
    return await result(failed);
  } finally {
    source?.release();
  }
}
