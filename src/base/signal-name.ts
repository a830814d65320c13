import { constants } from 'node:os';

/** The name of a signal, such as `SIGTERM`; undefined for a number that has none. */
export function signalName(signal: number): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
}
