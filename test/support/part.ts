/**
 * Which part of a long run is taken: `CRYOBOX_PART` where it is set, else another one with each day. A run that failed is repeated
 * with the same number.
 */
export const part = Number(process.env.CRYOBOX_PART || Math.floor(Date.now() / 86_400_000));

/** Every `count`th of some items, by {@link part}, and never none; `count` parts in a row take each item once. */
export function partOf<T>(items: readonly T[], count: number): T[] {
  const step = Math.min(count, items.length);
  return items.filter((_, index) => index % step === part % step);
}
