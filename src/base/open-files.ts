import { readFileSync } from 'node:fs';

/** How many files this process may have open: now, and at most after raising it. `Infinity` where there is no limit. */
export interface OpenFileLimits {
  readonly soft: number;
  readonly hard: number;
}

/** Reads the limits of this process (proc(5), `/proc/self/limits`). */
export function openFileLimits(): OpenFileLimits {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const [, soft, hard] = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(limits) ?? [];
  return { soft: limitOf(soft), hard: limitOf(hard) };
}

function limitOf(text: string | undefined): number {
  return text === undefined || text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text);
}
