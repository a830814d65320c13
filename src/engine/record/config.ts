import type {
  CapabilityOptions,
  CreateOptions,
  DiskLimits,
  LifetimeAction,
  VolumeMount,
} from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { ArchitectureName } from '../../machine/index.js';
import { type NetworkConfig, normalNetwork, secretRules } from '../../network/index.js';

/** What of a box is stored as JSON: everything about its processes. */
export interface BoxConfig {
  /** Of the processors of its machine. Absent in boxes of before there were several. */
  readonly architecture?: ArchitectureName;
  readonly env: Readonly<Record<string, string>>;
  /**
   * Names of `env` that options gave; the others are of the image. Their values may be secrets. Absent in boxes of before
   * this was noted.
   */
  readonly ownEnv?: readonly string[];
  /** Absent: made of the name, else the id. */
  readonly hostname?: string;
  /** The image as its name was given; the row has the whole reference. Absent in boxes of before this was noted. */
  readonly imageAsked?: string;
  readonly workingDir: string;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** The command that runs at every start. Absent: the box idles. */
  readonly main?: MainConfig;
  readonly network: NetworkConfig;
  readonly diskLimits: DiskLimits;
  /** Secrets by their names; the vault has their values. Absent: none. */
  readonly secrets?: SecretConfigs;
  readonly capabilities: CapabilityOptions;
  readonly volumes: readonly VolumeMount[];
  /** How long each run lasts. Absent: without end. */
  readonly lifetime?: Lifetime | undefined;
}

/** How long a run of a box lasts, in seconds, and what becomes of the box then. */
export interface Lifetime {
  readonly seconds: number;
  readonly action: LifetimeAction;
}

/** The lifetime that options ask for. */
export function lifetimeOf(
  options: Pick<CreateOptions, 'lifetime' | 'lifetimeAction'>,
): Lifetime | undefined {
  const { lifetime = 0, lifetimeAction = 'stop' } = options;
  return lifetime === 0 ? undefined : { seconds: lifetime, action: lifetimeAction };
}

/** When a run that begins now ends, in milliseconds since 1970; undefined: never. */
export function endOfRun({ lifetime }: Pick<BoxConfig, 'lifetime'>): number | undefined {
  return lifetime && Date.now() + lifetime.seconds * 1000;
}

/** What is stored of secrets beside their values. */
export type SecretConfigs = Readonly<
  Record<string, { readonly placeholder: string; readonly hosts: readonly string[] }>
>;

/** The main command of a box, put together. */
export interface MainConfig {
  readonly argv: readonly string[];
  readonly tty: boolean;
}

/**
 * The main command that options ask for, on top of what an image says: who gives an entrypoint replaces the command too
 * (as Docker does). Undefined when they ask for none, also where the image has one: boxes are for commands that are run
 * in them, and most images name a shell. Throws `invalid_argument` when a terminal is asked for and there is nothing to run.
 */
export function mainOf(
  { entrypoint, cmd, tty }: Pick<CreateOptions, 'entrypoint' | 'cmd' | 'tty'>,
  image: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] },
): MainConfig | undefined {
  if (entrypoint === undefined && cmd === undefined && tty !== true) return undefined;
  const own = cmd ?? (entrypoint === undefined ? image.cmd : []);
  const argv = [...(entrypoint ?? image.entrypoint), ...own];
  if (argv.length > 0) return { argv, tty: tty === true };
  if (tty !== true) return undefined;
  throw new CryoboxError('invalid_argument', 'tty is set, and there is no command to run on the terminal', {
    hint: 'Give cmd; the image names no command.',
  });
}

/** A stored configuration; one of an earlier release has no lists, and no limits. */
export function parseConfig(text: string): BoxConfig {
  const config = JSON.parse(text) as BoxConfig;
  const hosts = Object.values(config.secrets ?? {}).flatMap((secret) => secret.hosts);
  const network = { ...normalNetwork(config.network), intercept: secretRules(hosts) };
  return { ...config, network, diskLimits: config.diskLimits ?? {} };
}

/** The configuration without its secrets: they belong to the box, and to its forks and clones. */
export function withoutBoxSecrets({ secrets: _, ...config }: BoxConfig): BoxConfig {
  return config;
}

/** What everybody may know of an environment without a note of where it comes from: no program keeps a secret there. */
const plainNames = new Set(['PATH', 'HOME', 'LANG', 'TERM']);

/** An environment without the values that options gave, which may be secrets. Their names stay in `ownEnv`. */
export function withoutSecrets(config: BoxConfig): BoxConfig {
  const { env, ownEnv = Object.keys(env).filter((name) => !plainNames.has(name)) } = config;
  const own = new Set(ownEnv);
  const kept = Object.entries(env).filter(([name]) => !own.has(name));
  return { ...config, env: Object.fromEntries(kept), ownEnv };
}

/** A configuration with more variables, given by options. */
export function withEnv(config: BoxConfig, given: Readonly<Record<string, string>> | undefined): BoxConfig {
  if (!given) return config;
  const { ownEnv } = withoutSecrets(config);
  return { ...config, env: { ...config.env, ...given }, ownEnv: ownEnvOf(given, ownEnv) };
}

/** `ownEnv` of a box whose options give an environment, on top of that of another one. */
export function ownEnvOf(
  given: Readonly<Record<string, string>> | undefined,
  before: readonly string[] = [],
): readonly string[] {
  return [...new Set([...before, ...Object.keys(given ?? {})])];
}
