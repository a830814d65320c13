import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { installedOnce, installMs, npmInstall } from './installed.js';

const runMs = 120_000;

/** A directory with one version of a package from npm and what it needs. */
export async function installedPackage(name: string, version: string): Promise<string> {
  return await installedOnce(`npm-clients/${name.replace('/', '-')}-${version}`, async (directory) => {
    await writeFile(join(directory, 'package.json'), '{"private":true,"type":"module"}');
    await execa('npm', [...npmInstall, `${name}@${version}`], { cwd: directory, timeout: installMs });
  });
}

/** A client from npm, unmodified, in one version: programs with it run in processes of their own. */
export class NpmClient {
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;

  private constructor(directory: string, env: Readonly<Record<string, string>>) {
    this.#directory = directory;
    this.#env = env;
  }

  /** Installs a version of a package; its programs have `env` and nothing else of this process but PATH. */
  static async install(
    name: string,
    version: string,
    env: Readonly<Record<string, string>>,
  ): Promise<NpmClient> {
    return new NpmClient(await installedPackage(name, version), env);
  }

  /** Runs the body of an asynchronous function after `head`; gives what it returns. */
  async run(head: string, body: string): Promise<unknown> {
    const program = `${head}
const result = await (async () => { ${body} })();
process.stdout.write('\\n' + JSON.stringify(result ?? null));
process.exit(0);`;
    const file = join(this.#directory, `program-${randomUUID()}.mjs`);
    await writeFile(file, program);
    try {
      const { stdout } = await execa('node', [file], {
        cwd: this.#directory,
        env: { PATH: process.env['PATH'] ?? '', HOME: this.#directory, ...this.#env },
        extendEnv: false,
        timeout: runMs,
      });
      return JSON.parse(stdout.slice(stdout.lastIndexOf('\n')));
    } finally {
      await rm(file, { force: true });
    }
  }
}
