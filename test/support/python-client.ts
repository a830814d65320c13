import { execa } from 'execa';
import { installedOnce, installMs } from './installed.js';

/** A directory for `PYTHONPATH` with one version of a package from PyPI. */
export async function installedPython(name: string, version: string): Promise<string> {
  return await installedOnce(`python/${name}-${version}`, async (directory) => {
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-compile', '--target', directory];
    await execa('python3', [...pip, `${name}==${version}`], { timeout: installMs });
  });
}

/** Runs a program with what is installed in a directory; gives what its last line says, as JSON. */
export async function runPython(
  directory: string,
  env: Readonly<Record<string, string>>,
  program: string,
): Promise<unknown> {
  const { stdout } = await execa('python3', ['-c', program], {
    env: { ...env, PYTHONPATH: directory },
    timeout: 120_000,
  });
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\n') + 1)) as unknown;
}

/** The Python client of BoxLite, unmodified, in one version. */
export class PythonClient {
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;

  private constructor(directory: string, env: Readonly<Record<string, string>>) {
    this.#directory = directory;
    this.#env = env;
  }

  /** Installs a version, for a server. */
  static async install(version: string, env: Readonly<Record<string, string>>): Promise<PythonClient> {
    return new PythonClient(await installedPython('boxlite', version), env);
  }

  /** Runs the body of an `async def` in which `runtime` is connected. Gives what it returns, by way of JSON. */
  async run(body: string): Promise<unknown> {
    const script = [
      'import asyncio, json, os, boxlite',
      'async def main(runtime):',
      ...body.split('\n').map((line) => `    ${line}`),
      'options = boxlite.BoxliteRestOptions(url=os.environ["URL"],',
      '    credential=boxlite.ApiKeyCredential(os.environ["KEY"]), path_prefix=os.environ["PREFIX"])',
      'async def connected():',
      '    return await main(boxlite.Boxlite.rest(options))',
      'print(json.dumps(asyncio.run(connected())), flush=True)',
      // Old versions abort when the interpreter takes itself down.
      'os._exit(0)',
    ];
    return await runPython(this.#directory, this.#env, script.join('\n'));
  }
}
