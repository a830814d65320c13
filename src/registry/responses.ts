import type { Dispatcher } from 'undici';
import { z } from 'zod';

type Body = Dispatcher.ResponseData['body'];

/** How much of a refusal is read for its message. */
const maxErrorBytes = 8192;
const maxMessageChars = 300;

const errorSchema = z.object({
  errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1),
});

/** A body of at most `limitBytes`; undefined when it is longer. */
export async function readLimited(body: Body, limitBytes: number): Promise<Buffer | undefined> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of body as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > limitBytes) {
      body.destroy();
      return undefined;
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The message of a registry's error document (OCI distribution spec, "Error Codes"), or undefined. */
export async function readErrorMessage(body: Body): Promise<string | undefined> {
  try {
    const bytes = await readLimited(body, maxErrorBytes);
    const parsed = errorSchema.safeParse(JSON.parse(bytes?.toString('utf8') ?? ''));
    const first = parsed.data?.errors[0];
    return (first?.message || first?.code)?.slice(0, maxMessageChars);
  } catch {
    return undefined;
  }
}

/** Milliseconds of `Retry-After` (RFC 9110, 10.2.3): seconds or a date; undefined when there is none. */
export function readRetryAfter(header: string | readonly string[] | undefined): number | undefined {
  if (typeof header !== 'string') return undefined;
  if (/^[0-9]{1,9}$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
