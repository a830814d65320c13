import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boxLimits } from '../../api/index.js';
import { silentLogger } from '../../base/log.js';
import { CryoboxError } from '../../errors.js';
import { findQemu, hostArchitecture } from '../../machine/index.js';
import { homePaths } from '../core/home.js';
import { prepareHome } from '../core/home-directory.js';
import { LayerFiles } from '../layers/layer-files.js';
import { chooseAccelerator, knownAccelerator } from './accelerator.js';
import { prepareAssets } from './assets.js';
import { buildGolden } from './golden-build.js';

/** Under KVM a boot takes a second; a KVM that cannot run the kernel hangs for ever. */
const kvmDeadlineMs = 15_000;

/**
 * Finds the accelerator by booting a machine under KVM in a temporary home, remembers it, and removes the home.
 * Throws `config_error` when there is no kernel or agent to boot.
 */
export async function tryAccelerator(): Promise<NonNullable<Awaited<ReturnType<typeof knownAccelerator>>>> {
  const root = await mkdtemp(join(tmpdir(), 'cryobox-trial-'));
  try {
    const paths = homePaths(root);
    await prepareHome(paths);
    const [qemu, assets] = await Promise.all([findQemu(), prepareAssets(paths)]);
    const { name: architecture } = hostArchitecture();
    const shape = { architecture, cpus: boxLimits.cpus.default, memoryMiB: boxLimits.memoryMiB.default };
    const layers = new LayerFiles(paths.layers);
    const trial = {
      paths,
      layers,
      qemu,
      assets,
      shape,
      accelerator: 'kvm',
      deadlineMs: kvmDeadlineMs,
    } as const;
    await chooseAccelerator(qemu.version, silentLogger, async () => {
      await buildGolden(trial);
    });
    const found = await knownAccelerator(qemu.version);
    if (!found) throw new CryoboxError('internal', 'the trial of the accelerator left no record');
    return found;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
