import { environmentValue } from '../../base/environment.js';
import { CryoboxError } from '../../errors.js';
import { hostMemoryBytes } from './host-memory.js';

/** How many hot machines are kept. */
export interface HotSize {
  /** Per kind in use. */
  readonly perKind: number;
  /** Of all kinds together. */
  readonly atMost: number;
}

/** Kept per kind in use where nobody says how many: making one takes a second of processor under emulation. */
const usual = 0;
/** What one has of its own: 48 MiB, measured (docs/performance.md), and what the host's kernel keeps for it. */
const bytesOfOne = 64 * 1024 ** 2;
/** The share of the host's memory that all of them may have together: a host of less than 2 GiB keeps none. */
const shareOfHost = 1 / 32;

/**
 * What an engine is to keep: as many as its options or `CRYOBOX_HOT_MACHINES` say, as far as the host's memory goes. Throws
 * `config_error` for a variable that is no number.
 */
export async function hotSizeOf({
  poolSize,
  hotSize,
}: {
  readonly poolSize?: number;
  readonly hotSize?: number;
}): Promise<HotSize> {
  const perKind = poolSize === 0 ? 0 : (hotSize ?? sizeOfVariable() ?? usual);
  return { perKind, atMost: perKind === 0 ? 0 : hotMachinesIn(await hostMemoryBytes()) };
}

/** How many hot machines a host of so many bytes of memory keeps at most. */
export function hotMachinesIn(memoryBytes: number): number {
  return Math.floor((memoryBytes * shareOfHost) / bytesOfOne);
}

function sizeOfVariable(): number | undefined {
  const text = environmentValue('CRYOBOX_HOT_MACHINES');
  if (text === undefined) return undefined;
  if (/^\d{1,2}$/.test(text)) return Number(text);
  const got = `CRYOBOX_HOT_MACHINES is ${JSON.stringify(text)}, expected 0 to 99`;
  throw new CryoboxError('config_error', got, { hint: 'Set it to 1, or to 0 for none.' });
}
