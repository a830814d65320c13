import { z } from 'zod';
import { boxLimits } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import {
  type AnyManifest,
  type BoxliteManifest,
  isOurs,
  type Manifest,
} from '../../formats/archive/index.js';
import { hostArchitecture } from '../../machine/index.js';
import { normalNetwork } from '../../network/index.js';
import { type BoxConfig, mainOf } from '../record/config.js';
import { checkCreateOptions } from '../record/validate.js';
import { type ArchivedFacts, archivedFacts } from './memory.js';

/** What an archive says of the box in it, checked as the options of a new box are. */
export interface ImportFacts {
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Absent: the archive does not say. */
  readonly diskSizeGb?: number;
  readonly image: string;
  readonly config: BoxConfig;
  readonly labels: Readonly<Record<string, string>>;
  /** The golden machine that the guest disk belongs to; empty: unknown. */
  readonly goldenKey: string;
  /** Absent: there is no memory in it. */
  readonly memory?: ArchivedFacts;
}

const text = z.record(z.string(), z.string());
const capabilities = z.object({ add: z.array(z.string()).optional(), drop: z.array(z.string()).optional() });

const rules = z.array(z.string()).default([]);
const network = z.object({
  outbound: z.enum(['enabled', 'disabled']).default('enabled'),
  allowNet: rules,
  denyNet: rules,
});

const diskLimits = z.object({
  readBytesPerSecond: z.number().optional(),
  writeBytesPerSecond: z.number().optional(),
  readOperationsPerSecond: z.number().optional(),
  writeOperationsPerSecond: z.number().optional(),
});

/** Volumes are of the host that the archive came from: none is attached here. */
const config = z.object({
  architecture: z.enum(['x64', 'arm64']).optional(),
  env: text.default({}),
  ownEnv: z.array(z.string()).optional(),
  hostname: z.string().optional(),
  imageAsked: z.string().max(512).optional(),
  workingDir: z.string().default('/'),
  user: z.string().default(''),
  entrypoint: z.array(z.string()).default([]),
  cmd: z.array(z.string()).default([]),
  main: z.object({ argv: z.array(z.string()).min(1), tty: z.boolean() }).optional(),
  network: network.prefault({}),
  diskLimits: diskLimits.default({}),
  capabilities: capabilities.default({}),
});

const options = z.object({
  goldenKey: z
    .string()
    .regex(/^[0-9a-f]{1,64}$/)
    .default(''),
  config: config.prefault({}),
  labels: text.default({}),
});

/** BoxLite writes options that are not set as null, and the environment as pairs (v1 contract, section 3.5). */
const boxliteOptions = z.object({
  cpus: z.number().nullish(),
  memory_mib: z.number().nullish(),
  disk_size_gb: z.number().nullish(),
  env: z.union([z.array(z.tuple([z.string(), z.string()])), text]).nullish(),
  working_dir: z.string().nullish(),
  user: z.string().nullish(),
  entrypoint: z.array(z.string()).nullish(),
  cmd: z.array(z.string()).nullish(),
});

/**
 * What a box of BoxLite may have and an imported one is not given (v1 contract, section 3.5): rights over the host it came
 * from, and parts of that host. Its `security` is left out instead, since a box here has that of all boxes.
 */
const boxliteRefused = ['privileged', 'nested_virtualization', 'volumes', 'rootfs_path', 'kernel'] as const;

/** Takes the facts out of a manifest, which nobody vouches for. Throws `archive_invalid`, `invalid_argument`, `unsupported`. */
export function importFacts(manifest: AnyManifest): ImportFacts {
  const facts = isOurs(manifest) ? factsOf(manifest) : boxliteFactsOf(manifest);
  const { image, labels, cpus, memoryMiB, diskSizeGb } = facts;
  const {
    ownEnv: _ownEnv,
    imageAsked: _imageAsked,
    main: _main,
    lifetime: _lifetime,
    architecture: _architecture,
    secrets: _secrets,
    ...config
  } = facts.config;
  checkCreateOptions({
    // The image need not be here, and an archive without metadata does not name it.
    image: image || 'none',
    cpus,
    memoryMiB,
    diskSizeGb,
    labels,
    ...config,
    user: config.user || undefined,
  });
  return facts;
}

function factsOf(manifest: Manifest): ImportFacts {
  const parsed = options.safeParse(manifest.options);
  if (!parsed.success) throw badOptions(parsed.error);
  const { goldenKey, labels, config } = parsed.data;
  return {
    ...manifest.shape,
    goldenKey,
    labels,
    image: manifest.image ?? '',
    config: { ...config, volumes: [] },
    memory: archivedFacts(manifest),
  };
}

function refuseForeign({ options }: BoxliteManifest): void {
  for (const name of boxliteRefused) {
    const value = options[name];
    const isUnset = !value || (Array.isArray(value) && value.length === 0);
    if (isUnset) continue;
    throw new CryoboxError('unsupported', `archive: the box in it has "${name}", which cannot be imported`, {
      hint: `Export the box without "${name}"; volumes can be mounted into the new box.`,
      details: { option: name },
    });
  }
}

function boxliteFactsOf(manifest: BoxliteManifest): ImportFacts {
  refuseForeign(manifest);
  const parsed = boxliteOptions.safeParse(manifest.options);
  if (!parsed.success) throw badOptions(parsed.error);
  const { cpus, memory_mib, disk_size_gb, env, working_dir, user, entrypoint, cmd } = parsed.data;
  return {
    cpus: cpus ?? boxLimits.cpus.default,
    memoryMiB: memory_mib ?? boxLimits.memoryMiB.default,
    diskSizeGb: disk_size_gb ?? undefined,
    goldenKey: '',
    labels: {},
    image: manifest.image ?? '',
    config: {
      // Its archives do not say; both ends are hosts of the same kind, or its programs do not run.
      architecture: hostArchitecture().name,
      env: Array.isArray(env) ? Object.fromEntries(env) : (env ?? {}),
      workingDir: working_dir ?? '/',
      user: user ?? '',
      entrypoint: entrypoint ?? [],
      cmd: cmd ?? [],
      main: mainOf(
        { entrypoint: entrypoint ?? undefined, cmd: cmd ?? undefined },
        { entrypoint: [], cmd: [] },
      ),
      network: normalNetwork(),
      diskLimits: {},
      capabilities: {},
      volumes: [],
    },
  };
}

function badOptions(error: z.ZodError): CryoboxError {
  return new CryoboxError(
    'archive_invalid',
    `archive: the options in manifest.json: ${z.prettifyError(error)}`,
  );
}
