import type { Logger } from '../../base/log.js';
import { type ArchitectureName, findQemu, hostArchitecture, type QemuBinary } from '../../machine/index.js';
import type { HomePaths } from '../core/home.js';
import { type GuestAssets, prepareAssets } from './assets.js';
import { ensureKernel } from './kernel-fetch.js';

/** What runs the machines of one architecture, and what they boot. */
export interface MachineParts {
  readonly qemu: QemuBinary;
  readonly assets: GuestAssets;
}

interface PartsNeeds {
  readonly paths: HomePaths;
  readonly logger: Logger;
}

/** The parts of machines by their architecture: the host's, which every engine has, and others once a box asks for them. */
export class PartsByArchitecture {
  readonly #needs: PartsNeeds;
  readonly #found = new Map<ArchitectureName, MachineParts>();
  readonly #looking = new Map<ArchitectureName, Promise<MachineParts>>();

  private constructor(needs: PartsNeeds, host: MachineParts) {
    this.#needs = needs;
    this.#found.set(hostArchitecture().name, host);
  }

  /** Finds the host's parts. Throws `config_error`. */
  static async open(needs: PartsNeeds): Promise<PartsByArchitecture> {
    return new PartsByArchitecture(needs, await find(needs, hostArchitecture().name));
  }

  /** Those of this host's own processor. */
  get host(): MachineParts {
    return this.known(hostArchitecture().name) as MachineParts;
  }

  /** Those of an architecture, if they were found already. */
  known(name: ArchitectureName): MachineParts | undefined {
    return this.#found.get(name);
  }

  /** Files of the home that machines of this engine boot from. */
  files(): string[] {
    return [...this.#found.values()].flatMap(({ assets }) => [
      assets.kernelPath,
      assets.initramfsPath,
      assets.guardPath,
      assets.gatewayPath,
    ]);
  }

  /** Those of an architecture, looked for once. Throws `config_error` when its QEMU, kernel or agent is missing. */
  async of(name: ArchitectureName): Promise<MachineParts> {
    const found = this.#found.get(name);
    if (found) return found;
    const looking = this.#looking.get(name) ?? find(this.#needs, name);
    this.#looking.set(name, looking);
    try {
      const parts = await looking;
      this.#found.set(name, parts);
      return parts;
    } finally {
      this.#looking.delete(name);
    }
  }
}

async function find({ paths, logger }: PartsNeeds, name: ArchitectureName): Promise<MachineParts> {
  const qemu = await findQemu(name);
  await ensureKernel((text) => logger.info(text), name);
  return { qemu, assets: await prepareAssets(paths, name) };
}
