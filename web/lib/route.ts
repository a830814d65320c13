/** Which page is shown: what follows `#` in the address. */
import { createValue } from './value.ts';

const current = () => location.hash.replace(/^#\/?/, '').split('/').map(decodeSafely);

/** The address may have been typed. */
function decodeSafely(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The parts of the address. */
export const route = createValue<readonly string[]>(current());

addEventListener('hashchange', () => route.set(current()));

/** The address of a page. */
export function linkTo(...parts: readonly string[]): string {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

/** Goes to a page. */
export function goTo(...parts: readonly string[]): void {
  location.hash = linkTo(...parts);
}
