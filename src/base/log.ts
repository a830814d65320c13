/** Where the library says what it does; the caller may pass its own, `console` fits. */
export interface Logger {
  /** Steps, for who looks for a cause. */
  debug(message: string, facts?: Record<string, unknown>): void;
  /** What was done. */
  info(message: string, facts?: Record<string, unknown>): void;
  /** What went wrong and was dealt with. */
  warn(message: string, facts?: Record<string, unknown>): void;
  /** What went wrong and needs somebody. */
  error(message: string, facts?: Record<string, unknown>): void;
}

/** Says nothing: the default of the library. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
