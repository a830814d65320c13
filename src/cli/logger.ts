import type { Logger } from '../base/log.js';
import { requestId } from '../base/request.js';

/** What every line of a request says. */
function requestFacts(): Record<string, unknown> {
  const id = requestId();
  return id === undefined ? {} : { requestId: id };
}

/** A {@link Logger} that writes a line of JSON per message to stderr; `debug` only with CRYOBOX_DEBUG. */
export async function processLogger(): Promise<Logger> {
  const { pino } = await import('pino');
  const level = process.env.CRYOBOX_DEBUG ? 'debug' : 'info';
  const logger = pino(
    { level, timestamp: pino.stdTimeFunctions.isoTime, mixin: requestFacts },
    pino.destination({ fd: 2, sync: true }),
  );
  return {
    debug: (message, facts) => logger.debug(facts, message),
    info: (message, facts) => logger.info(facts, message),
    warn: (message, facts) => logger.warn(facts, message),
    error: (message, facts) => logger.error(facts, message),
  };
}
