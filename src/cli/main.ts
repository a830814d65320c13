#!/usr/bin/env node
import { runCli } from './program.js';

/** What is said of the place of a new home. */
const warnings = {
  warn: (text: string) => {
    process.stderr.write(`warning: ${text}\n`);
  },
};

process.exitCode = await runCli(process.argv.slice(2), {
  streams: process,
  signals: process,
  exit: (code) => process.exit(code),
  // The engine, its database and its drivers are loaded only when a command needs them.
  openRuntime: async (connection) => (await import('../home/client.js')).openRuntime(connection, warnings),
});
// Nothing that is still open, such as a terminal's stdin, may keep the process.
process.exit();
