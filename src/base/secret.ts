import { timingSafeEqual } from 'node:crypto';

/** Whether a text is a secret, in a time that does not depend on where they differ. */
export function isSecret(secret: string, text: string): boolean {
  const [expected, given] = [Buffer.from(secret), Buffer.from(text)];
  return expected.length === given.length && timingSafeEqual(expected, given);
}
