import type { DoctorCheck } from '../../api/index.js';
import { setUpHint } from '../../base/package-files.js';
import { runProcess } from '../../base/process/index.js';
import { isCryoboxError, messageOf } from '../../errors.js';

/** What a check found. */
export type Finding = Omit<DoctorCheck, 'name'>;

/** One requirement: what it throws is a failure of that check. */
export interface Check {
  readonly name: string;
  readonly look: () => Promise<Finding>;
}

/** A finding with nothing to do. */
export function ok(detail: string): Finding {
  return { status: 'ok', detail };
}

/** A finding that costs comfort or speed. */
export function warning(detail: string, hint: string): Finding {
  return { status: 'warning', detail, hint };
}

/** A finding that keeps Cryobox from working. */
export function failed(detail: string, hint: string): Finding {
  return { status: 'failed', detail, hint };
}

/** Runs one check. */
export async function runCheck({ name, look }: Check): Promise<DoctorCheck> {
  try {
    return { name, ...(await look()) };
  } catch (error) {
    const hint = isCryoboxError(error) ? error.hint : `See the message. ${setUpHint}`;
    return { name, status: 'failed', detail: messageOf(error), hint };
  }
}

/** Asking a tool for its version takes milliseconds. */
const versionTimeoutMs = 10_000;

/** The first line a command prints about its version, or undefined when it cannot be run. */
export async function versionOf(command: string, flag: string): Promise<string | undefined> {
  // Debian keeps the tools of file systems where only root's PATH looks.
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` };
  try {
    const result = await runProcess(command, { args: [flag], timeoutMs: versionTimeoutMs, env });
    if (result.code !== 0) return undefined;
    return `${result.stdout.toString('utf8')}${result.stderr}`.trim().split('\n')[0];
  } catch {
    return undefined;
  }
}
