import { readFileSync } from 'node:fs';

const tickMs = 2;

/** Processor time of the thread of the event loop: proc(5), schedstat. */
function usedMs(): number {
  const stat = readFileSync(`/proc/${process.pid}/task/${process.pid}/schedstat`, 'latin1');
  return Number(stat.split(' ')[0]) / 1e6;
}

/**
 * Runs a task and returns the processor time of the longest stretch in which nobody else had a turn: processor time,
 * because a busy host makes everybody wait.
 */
export async function longestTurnMs(task: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = usedMs();
  const timer = setInterval(() => {
    const now = usedMs();
    longest = Math.max(longest, now - last);
    last = now;
  }, tickMs);
  try {
    await task();
    // The stretch in which it ended counts as well.
    await new Promise((resolve) => setTimeout(resolve, tickMs));
  } finally {
    clearInterval(timer);
  }
  return longest;
}
