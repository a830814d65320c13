/**
 * Whether two names are of one image: the tag `latest` may be left out of either, and what stands before the name, such as the
 * registry and its `library`, out of one of them.
 */
export function namesSameImage(one: string, other: string): boolean {
  const [a, b] = [withTag(one), withTag(other)];
  return a === b || a.endsWith(`/${b}`) || b.endsWith(`/${a}`);
}

function withTag(name: string): string {
  return /[:@][^/]*$/.test(name) ? name : `${name}:latest`;
}
