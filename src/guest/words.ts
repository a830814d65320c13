/** Arguments and variables that are too long for the header of one frame (docs/PROTOCOL.md, section 6). */
import type { AgentConnection, RequestOptions } from './connection.js';
import { maxPayloadBytes } from './frames.js';

/** What a command is given. */
interface Given {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** Of a header, which holds 64 KiB with its other members. */
const maxInHeaderBytes = 48 * 1024;
/** A byte that is no UTF-8 is one of these code units; with the flag only those that stand alone. */
const loneByte = /([\u{DC80}-\u{DCFF}])/u;

/**
 * Sends arguments and environment ahead when they do not fit the header of a start. Gives the members of the start that
 * stand for them.
 */
export async function sendWords(
  connection: AgentConnection,
  id: string,
  { argv, env = {} }: Given,
  options: RequestOptions = {},
): Promise<Record<string, unknown>> {
  if (Buffer.byteLength(JSON.stringify([argv, env])) <= maxInHeaderBytes) return { argv, env };
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const bytes = Buffer.concat([...argv, ...variables].map((word) => bytesOf(`${word}\0`)));
  for (let at = 0; at < bytes.length; at += maxPayloadBytes) {
    const payload = bytes.subarray(at, at + maxPayloadBytes);
    await connection.request('exec.words', { exec: id }, { ...options, payload });
  }
  return { words: argv.length };
}

function bytesOf(text: string): Buffer {
  const parts = text.split(loneByte);
  if (parts.length === 1) return Buffer.from(text);
  // Every second part is a lone byte.
  return Buffer.concat(
    parts.map((part, at) => (at % 2 === 0 ? Buffer.from(part) : Buffer.of(part.charCodeAt(0) & 0xff))),
  );
}
