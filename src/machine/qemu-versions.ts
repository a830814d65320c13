/** The first release with something, as major and minor. */
type Release = readonly [major: number, minor: number];

/**
 * All that is decided by the version of QEMU: a row for each thing, with the first release that has it. What a migration
 * stream holds is not decided by version: the reader takes what any release writes, each record known by its number
 * (src/formats/qemu-stream/format.ts, where one that came later says since when). Findings: docs/decisions/040.
 */
const since = {
  /**
   * The oldest QEMU that is run at all: `blockdev-reopen` of the child of a filter, postcopy as page servers speak it, the
   * kinds of `-sandbox` and the values of `-action` are all there since. Older ones are refused when they are found.
   */
  machines: [7, 2],
  /** `-netdev stream`, through which a card leads to a gateway. Without it `allowNet` and `denyNet` are refused. */
  gatewayCard: [7, 2],
} satisfies Record<string, Release>;

/** Whether a QEMU of that version, as it prints it, has something. */
export function qemuHas(what: keyof typeof since, version: string): boolean {
  const [major, minor] = since[what];
  const [itsMajor = 0, itsMinor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return itsMajor > major || (itsMajor === major && itsMinor >= minor);
}

/** The first release with something, such as `7.2`, for messages. */
export function firstQemuWith(what: keyof typeof since): string {
  return since[what].join('.');
}
