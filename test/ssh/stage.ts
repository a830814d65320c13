import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa, type Options } from 'execa';
import type { Box } from '../../src/api/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { mustRun, runCli } from '../support/cli.js';
import { newHome } from '../support/home.js';

/** No client of a test takes longer, unless it hangs. */
const limitMs = 60_000;

/** A box of a home of its own, and the host's clients of SSH with the settings that `cryobox ssh --config` gives. */
export interface SshStage extends AsyncDisposable {
  readonly home: string;
  readonly box: Box;
  /** A directory of the host, with the settings (`config`) and keys in it. */
  readonly directory: string;
  /** Host name of the box in the settings. */
  readonly host: string;
  /** Runs a client, never rejecting for its exit code; `-F` and the settings come first. */
  run(client: 'ssh' | 'scp' | 'sftp', args: readonly string[], options?: Options): Promise<Ended>;
  /** Runs a line in the box by `ssh`, and gives what it wrote. */
  line(text: string): Promise<string>;
}

/** How a client ended. */
export interface Ended {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment of a user who has no setting of Cryobox, as that of an editor. */
export const plainEnv = { CRYOBOX_HOME: '', CRYOBOX_URL: '', CRYOBOX_API_KEY: '', CRYOBOX_PREFIX: '' };

/** Makes a home, a box `dev` of the image `tiny`, and settings for it. */
export async function sshStage(): Promise<SshStage> {
  const home = await newHome();
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-ssh-'));
  const config = join(directory, 'config');
  await mustRun(home.path, 'create', '--name', 'dev', 'tiny');
  const keys = ['--keys', join(directory, 'keys')];
  await writeFile(config, await mustRun(home.path, 'ssh', '--config', ...keys, 'dev'));
  const runtime = connectRuntime({ socketPath: join(home.path, 'engine.sock') });
  const box = await runtime.get('dev');
  if (!box) throw new Error('there is no box');
  const host = 'dev.cryobox';
  const run: SshStage['run'] = async (client, args, options) => {
    const { exitCode, stdout, stderr } = await execa(client, ['-F', config, ...args], {
      stdin: 'ignore',
      ...options,
      env: plainEnv,
      reject: false,
      timeout: limitMs,
      stripFinalNewline: false,
    });
    return { exitCode, stdout: String(stdout), stderr: String(stderr) };
  };
  return {
    home: home.path,
    box,
    directory,
    host,
    run,
    line: async (text) => (await run('ssh', [host, text])).stdout,
    async [Symbol.asyncDispose]() {
      await runtime.close();
      await runCli(home.path, 'rm', '--force', 'dev');
      await runCli(home.path, 'engine', 'stop');
      await home[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
