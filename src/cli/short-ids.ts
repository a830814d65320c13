/** The kind, ten characters of time and four random ones: told apart at a glance, and by `get`. */
const shortLength = 18;

/**
 * What shortens ids for a table: to 18 characters, and as many more as tell all of `ids` apart, so that each is the
 * beginning of one id only. Without `trunc` they stay as they are.
 */
export function shortener(ids: readonly string[], trunc = true): (id: string) => string {
  if (!trunc) return (id) => id;
  const distinct = new Set(ids).size;
  let length = shortLength;
  while (new Set(ids.map((id) => id.slice(0, length))).size < distinct) length += 1;
  return (id) => id.slice(0, length);
}
