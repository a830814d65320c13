import { execa, type Options } from 'execa';

/** The command as it ships, run with node. */
export const cliPath = 'dist/cli/main.js';

/** No command of a test takes longer, unless it hangs. */
const limitMs = 180_000;

/** Environment of a command line that is about one home. */
export function cliEnv(home: string): Record<string, string> {
  return { CRYOBOX_HOME: home, CRYOBOX_URL: '', CRYOBOX_API_KEY: '' };
}

/** Starts a command line as a process of its own. Never rejects for an exit code. */
export function spawnCli<const O extends Options>(home: string, args: readonly string[], options?: O) {
  return execa(process.execPath, [cliPath, ...args], {
    stdin: 'ignore',
    ...options,
    env: { ...cliEnv(home), ...options?.env },
    reject: false,
    timeout: limitMs,
    stripFinalNewline: false,
  } as const);
}

/** Runs a command line to its end. */
export async function runCli(home: string, ...args: string[]) {
  const { exitCode, stdout, stderr } = await spawnCli(home, args, {});
  return { exitCode, stdout: String(stdout), stderr: String(stderr) };
}

/** Runs a command line that must succeed, and gives what it printed. */
export async function mustRun(home: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runCli(home, ...args);
  if (exitCode !== 0) throw new Error(`cryobox ${args.join(' ')} ended with ${exitCode}: ${stderr}`);
  return stdout;
}
