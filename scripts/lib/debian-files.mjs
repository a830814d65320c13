// Packages of Debian whose files are wanted here and are never installed: kernels, and what programs for another
// processor are built with.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { architectureRow } from './architectures.mjs';
import { aptOptions, hasApt, rootPrefix, UPDATE_TIMEOUT_MS, updateLists } from './debian.mjs';
import { run, SetupError, tryRun } from './run.mjs';

const UNPACK_TIMEOUT_MS = 120_000;

/** The host's own apt: its lists, which only root can read again. */
const hostApt = {
  env: {},
  suffix: '',
  update: async () => updateLists(await rootPrefix('Run `apt-get update` as root')),
};

/**
 * An apt that knows the packages of an architecture of Debian, by its name there: the host's own, or one with lists in
 * `directory`, so that the host goes on without packages of another processor. Uses the host's sources.
 */
export async function aptFor(debian, directory) {
  if (!hasApt()) {
    throw new SetupError(
      'Not a Debian-like host (no apt-get): cannot fetch packages of Debian',
      'Unpack them as docs/decisions/250-arm64.md and docs/ARCHITECTURE.md describe.',
    );
  }
  if (architectureRow()?.debian === debian) return hostApt;
  const own = join(directory, 'apt');
  const state = join(own, 'state');
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    await mkdir(join(own, folder), { recursive: true });
  await copyFile('/var/lib/dpkg/status', join(state, 'status'));
  const lines = [
    `Dir::State "${state}";`,
    `Dir::State::status "${join(state, 'status')}";`,
    `Dir::Cache "${join(own, 'cache')}";`,
    `APT::Architectures { "${architectureRow().debian}"; "${debian}"; };`,
    // Directories of this user: the one that apt changes to cannot write them.
    `APT::Sandbox::User "";`,
  ];
  const config = join(own, 'apt.conf');
  await writeFile(config, `${lines.join('\n')}\n`);
  const env = { APT_CONFIG: config };
  return {
    env,
    suffix: `:${debian}`,
    update: () =>
      run('apt-get', [...aptOptions, 'update'], { env, timeoutMs: UPDATE_TIMEOUT_MS, label: 'apt-get' }),
  };
}

/** Names of the packages that a package depends on and that a pattern takes. */
export async function dependencies(apt, name, pattern) {
  const options = { env: apt.env, timeoutMs: 30_000, capture: true };
  const { stdout } = await tryRun('apt-cache', ['depends', '--important', name], options);
  const names = [...stdout.matchAll(/Depends: (\S+)/g)].map(([, dependency]) => dependency);
  return names.filter((dependency) => pattern.test(dependency));
}

/**
 * Downloads packages into `directory` and unpacks them into `tree` in it, whose path is returned. `name` finds the packages,
 * once more after the lists were read again: those that are older than the archive name versions that are gone.
 */
export async function unpackPackages(apt, directory, name, what) {
  let names = await name();
  if (names.length === 0 || !(await download(apt, directory, names))) {
    await apt.update();
    names = await name();
    if (names.length === 0) {
      throw new SetupError(
        `apt knows no package ${what}`,
        "Add Debian's main archive to the apt sources, then run this again",
      );
    }
    if (!(await download(apt, directory, names))) {
      throw new SetupError(`apt-get download ${names.join(' ')} failed`);
    }
  }
  const { stdout } = await run('find', [directory, '-maxdepth', '1', '-name', '*.deb'], {
    timeoutMs: 10_000,
    capture: true,
  });
  const tree = join(directory, 'tree');
  for (const deb of stdout.trim().split('\n'))
    await run('dpkg-deb', ['-x', deb, tree], { timeoutMs: UNPACK_TIMEOUT_MS });
  return tree;
}

async function download({ env }, directory, names) {
  const options = { cwd: directory, env, timeoutMs: UPDATE_TIMEOUT_MS, label: names[0] };
  return (await tryRun('apt-get', [...aptOptions, 'download', ...names], options)).status === 0;
}
