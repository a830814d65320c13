import { access, constants, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { environmentValue } from '../../base/environment.js';
import { ifExists, writeFileDurably } from '../../base/files.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../../errors.js';
import { type Accelerator, hostBootId } from '../../machine/index.js';
import { cacheDirectory } from './assets.js';

/** What a trial found, valid for one boot of the host and one QEMU. */
interface Finding {
  readonly hostBoot: string;
  readonly qemuVersion: string;
  readonly accelerator: Accelerator;
  readonly reason: string;
}

const findingFile = (): string => join(cacheDirectory(), 'accelerator.json');

/** The accelerator `CRYOBOX_ACCELERATOR` asks for, if any. Throws `invalid_argument` when it is neither kvm nor tcg. */
export function requestedAccelerator(): Accelerator | undefined {
  const asked = environmentValue('CRYOBOX_ACCELERATOR');
  if (asked === undefined || asked === 'auto') return undefined;
  if (asked === 'kvm' || asked === 'tcg') return asked;
  throw new CryoboxError('invalid_argument', `CRYOBOX_ACCELERATOR must be auto, kvm or tcg, got "${asked}"`);
}

/** What an earlier trial on this boot of the host found, if there was one. */
export async function knownAccelerator(qemuVersion: string): Promise<Finding | undefined> {
  const text = await ifExists(readFile(findingFile(), 'utf8'));
  if (text === undefined) return undefined;
  const finding = JSON.parse(text) as Finding;
  const fits = finding.qemuVersion === qemuVersion && finding.hostBoot === (await hostBootId());
  return fits ? finding : undefined;
}

/**
 * Chooses by trying: a present `/dev/kvm` proves nothing, on some hosts it opens and then hangs or aborts the guest.
 * `tryKvm` must really boot a machine, with a deadline. What is found is remembered. Throws what `tryKvm` throws when that
 * is no failure of the machine; nothing is remembered then.
 */
export async function chooseAccelerator(
  qemuVersion: string,
  logger: Logger,
  tryKvm: () => Promise<void>,
): Promise<Accelerator> {
  const known = requestedAccelerator() ?? (await knownAccelerator(qemuVersion))?.accelerator;
  if (known) return known;
  const finding = await tryOut(tryKvm);
  logger.info('chose the accelerator', { ...finding });
  await mkdir(cacheDirectory(), { recursive: true });
  const record: Finding = { hostBoot: await hostBootId(), qemuVersion, ...finding };
  await writeFileDurably(findingFile(), JSON.stringify(record));
  return finding.accelerator;
}

async function tryOut(tryKvm: () => Promise<void>): Promise<Pick<Finding, 'accelerator' | 'reason'>> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch (error) {
    return { accelerator: 'tcg', reason: `/dev/kvm cannot be used: ${messageOf(error)}` };
  }
  try {
    await tryKvm();
    return { accelerator: 'kvm', reason: 'a machine booted under KVM' };
  } catch (error) {
    // A full disk, or a file that is missing, says nothing of KVM: the next start tries again.
    if (!isOfTheMachine(error)) throw error;
    return { accelerator: 'tcg', reason: `no machine boots under KVM: ${messageOf(error)}` };
  }
}

function isOfTheMachine(error: unknown): boolean {
  if (isCryoboxError(error)) return error.code === 'machine_failed' || error.code === 'timeout';
  return errnoOf(error) === undefined;
}
