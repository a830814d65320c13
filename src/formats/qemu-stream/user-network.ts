import { CryoboxError } from '../../errors.js';
import { sectionType } from './format.js';

/**
 * The section that QEMU's user-mode network writes (slirp/src/state.c of libslirp, version 4): its header, a state without
 * forwarded connections, and its footer.
 */
const name = Buffer.from('\u0005slirp', 'latin1');
const headerBytes = 1 + 4 + name.length + 4 + 4;
const sectionBytes = 155;
const footerMark = 0x7e;
const footerBytes = 5;

/** Whether device sections, or a migration stream without memory, hold a state of QEMU's user-mode network. */
export function hasUserNetwork(sections: Buffer): boolean {
  return findSection(sections) !== undefined;
}

/**
 * Device sections, or a migration stream without memory, for a machine whose card leads elsewhere than to QEMU's user-mode
 * network: it has no place for the state of that, and refuses one. Throws `integrity` when it is not as it always is.
 */
export function withoutUserNetwork(sections: Buffer): Buffer {
  const start = findSection(sections);
  if (start === undefined) return sections;
  const end = start + sectionBytes;
  const footer = sections.subarray(end - footerBytes, end);
  const content = sections.subarray(start + headerBytes, end - footerBytes);
  const isWhole =
    footer[0] === footerMark && footer.subarray(1).equals(sections.subarray(start + 1, start + 5));
  // A first byte that is not 0 tells of a forwarded connection, which no machine has.
  if (!isWhole || content[0] !== 0) {
    throw new CryoboxError(
      'integrity',
      'device state: the section of the user-mode network is not as expected',
    );
  }
  return Buffer.concat([sections.subarray(0, start), sections.subarray(end)]);
}

/** Where the section begins: its kind and number stand before its name. */
function findSection(sections: Buffer): number | undefined {
  for (let at = sections.indexOf(name); at >= 0; at = sections.indexOf(name, at + 1)) {
    if (at >= 5 && sections[at - 5] === sectionType.full) return at - 5;
  }
  return undefined;
}
