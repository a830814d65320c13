import type { z } from 'zod';
import { CryoboxError } from '../../errors.js';
import type { pageQuery } from './schemas.js';

const maxPage = 100;
const separator = '__';

/** What lists are sorted by. */
interface Placed {
  readonly createdAt: Date;
  readonly id: string;
}

/** Place in a list by age: what a page ends with, and the next begins after. */
function placeOf({ createdAt, id }: Placed): string {
  return `${createdAt.toISOString()}${separator}${id}`;
}

function placeIn(token: string): string {
  const place = Buffer.from(token, 'base64url').toString();
  if (place.includes(separator)) return place;
  throw new CryoboxError('invalid_argument', 'the next token is none of this server; begin again without it');
}

/** One page of a list, the newest first unless `order` is `asc`, and the headers that lead to the next. */
export function pageOf<T extends Placed>(
  items: readonly T[],
  {
    order,
    limit = maxPage,
    nextToken,
  }: z.infer<typeof pageQuery> & { readonly order?: 'asc' | 'desc' | undefined },
): { page: T[]; headers: Readonly<Record<string, string>> } {
  const direction = order === 'asc' ? 1 : -1;
  const places = items.map((item) => ({ item, place: placeOf(item) }));
  places.sort((a, b) => (a.place < b.place ? -direction : direction));
  const from = nextToken === undefined ? undefined : placeIn(nextToken);
  const rest = places.filter(
    ({ place }) => from === undefined || (order === 'asc' ? place > from : place < from),
  );
  const page = rest.slice(0, limit);
  const last = page.at(-1);
  const isMore = last !== undefined && rest.length > page.length;
  return {
    page: page.map(({ item }) => item),
    headers: isMore ? { 'x-next-token': Buffer.from(last.place).toString('base64url') } : {},
  };
}
