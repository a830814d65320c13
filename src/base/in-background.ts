import { messageOf } from '../errors.js';
import type { Logger } from './log.js';

/**
 * Lets a task go on that nobody waits for: the one way to do so. A failure is logged as `cannot WHAT` and goes nowhere
 * else, so that it never ends the program that embeds this one.
 */
export function inBackground(task: Promise<unknown>, what: string, logger: Logger): void {
  task.catch((error: unknown) => {
    try {
      logger.warn(`cannot ${what}`, { reason: messageOf(error) });
    } catch {
      // A logger that throws must not do it here either.
    }
  });
}
