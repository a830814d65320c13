import type { Writable } from 'node:stream';
import type { Logger } from '../base/log.js';

/** A {@link Logger} that writes a line of JSON per message: time, level, message, facts. `debug` only with CRYOBOX_DEBUG. */
export function lineLogger(stream: Writable): Logger {
  const write = (level: string) => (message: string, facts?: Record<string, unknown>) => {
    stream.write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...facts })}\n`);
  };
  return {
    debug: process.env.CRYOBOX_DEBUG ? write('debug') : () => undefined,
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}
