import { constants } from 'node:os';
import type { ExitStatus } from '../../../api/index.js';
import type { ProcessEnd } from './process-messages.js';

/** What Go calls signals (syscall, `Signal.String`), where that differs from nothing at all. */
const signalTexts: Readonly<Record<number, string>> = {
  [constants.signals.SIGHUP]: 'hangup',
  [constants.signals.SIGINT]: 'interrupt',
  [constants.signals.SIGQUIT]: 'quit',
  [constants.signals.SIGILL]: 'illegal instruction',
  [constants.signals.SIGTRAP]: 'trace/breakpoint trap',
  [constants.signals.SIGABRT]: 'aborted',
  [constants.signals.SIGBUS]: 'bus error',
  [constants.signals.SIGFPE]: 'floating point exception',
  [constants.signals.SIGKILL]: 'killed',
  [constants.signals.SIGUSR1]: 'user defined signal 1',
  [constants.signals.SIGSEGV]: 'segmentation fault',
  [constants.signals.SIGUSR2]: 'user defined signal 2',
  [constants.signals.SIGPIPE]: 'broken pipe',
  [constants.signals.SIGALRM]: 'alarm clock',
  [constants.signals.SIGTERM]: 'terminated',
};

/** How a process ended, in the words that E2B's clients show. */
export function endOf({ exitCode, signal }: ExitStatus): ProcessEnd {
  if (signal !== null) {
    const status = `signal: ${signalTexts[signal] ?? signal}`;
    return { exitCode: -1, exited: false, status, error: status };
  }
  const code = exitCode ?? 0;
  const status = `exit status ${code}`;
  return { exitCode: code, exited: true, status, ...(code === 0 ? {} : { error: status }) };
}
