import type { CreateOptions } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { commandLine, flag, many, text, value } from './specs.js';
import {
  oneOf,
  parseCount,
  parseDiskGb,
  parseDurationSeconds,
  parseEnvironment,
  parseLabel,
  parseMemoryMiB,
  parseVolume,
} from './values.js';

const word = (raw: string) => raw;

/** Options of commands that make a box. */
export const boxOptionSpecs = {
  name: text('--name <name>', 'name of the box'),
  template: text('--template <name>', 'start from a template instead of an image'),
  cpus: value('--cpus <count>', 'virtual processors (default: 1)', parseCount),
  memory: value('--memory <size>', 'MiB, or a size such as 512m or 2g (default: 512m)', parseMemoryMiB),
  disk: value('--disk <size>', 'size of the file system in GiB (default: 10)', parseDiskGb),
  env: many('-e, --env <KEY=VALUE>', 'environment variable; KEY alone takes ours', parseEnvironment),
  workdir: text('-w, --workdir <directory>', 'working directory'),
  user: text('-u, --user <user>', 'name, uid, or user:group'),
  entrypoint: text('--entrypoint <program>', "replaces the image's entrypoint"),
  label: many('-l, --label <KEY=VALUE>', 'label', parseLabel),
  network: value('--network <mode>', 'outbound or none (default: outbound)', oneOf('outbound', 'none')),
  volume: many('-v, --volume <name:path[:ro]>', 'mounts a volume', parseVolume),
  capAdd: many('--cap-add <capability>', 'adds a Linux capability', word),
  capDrop: many('--cap-drop <capability>', 'drops a Linux capability', word),
  autoStop: value(
    '--auto-stop <duration>',
    'stops the box after this time without activity',
    parseDurationSeconds,
  ),
  autoStopAction: value(
    '--auto-stop-action <action>',
    'stop or pause (default: stop)',
    oneOf('stop', 'pause'),
  ),
  autoDelete: value(
    '--auto-delete <duration>',
    'removes the box after this time without activity',
    parseDurationSeconds,
  ),
  autoResume: flag('--no-auto-resume', 'exec and cp do not start the box'),
};

type BoxOptionValues = {
  readonly [K in keyof typeof boxOptionSpecs]: (typeof boxOptionSpecs)[K]['initial'];
};

/**
 * Image and command of the operands of `run` and `create`: with `--template` there is no image, and all words are the
 * command. @throws {CryoboxError} `invalid_argument` when neither an image nor a template is named
 */
export function splitOperands(
  operands: { readonly image: string | undefined; readonly command: readonly string[] },
  template: string | undefined,
): { readonly image?: string; readonly command: readonly string[] } {
  const { image, command } = operands;
  if (template !== undefined) return { command: commandLine(image === undefined ? [] : [image, ...command]) };
  if (image === undefined || image === '--') {
    throw new CryoboxError('invalid_argument', 'Neither an image nor a template was named', {
      hint: 'Name an image, such as `cryobox run debian-python`, or give --template.',
    });
  }
  return { image, command: commandLine(command) };
}

/** {@link CreateOptions} of what the command line says. Only what was given is set, so that defaults stay the engine's. */
export function toCreateOptions(image: string | undefined, options: BoxOptionValues): CreateOptions {
  return {
    image,
    template: options.template,
    name: options.name,
    cpus: options.cpus,
    memoryMiB: options.memory,
    diskSizeGb: options.disk,
    env: fromPairs(options.env),
    workingDir: options.workdir,
    user: options.user,
    entrypoint: options.entrypoint === undefined ? undefined : [options.entrypoint],
    labels: fromPairs(options.label),
    network: options.network && { outbound: options.network === 'none' ? 'disabled' : 'enabled' },
    volumes: options.volume.length === 0 ? undefined : options.volume,
    capabilities: capabilities(options.capAdd, options.capDrop),
    autoStop: options.autoStop,
    autoStopAction: options.autoStopAction,
    autoDelete: options.autoDelete,
    autoResume: options.autoResume ? undefined : false,
  };
}

/** A record of pairs, or undefined of none. */
export function fromPairs(
  pairs: readonly (readonly [string, string])[],
): Readonly<Record<string, string>> | undefined {
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs);
}

function capabilities(add: readonly string[], drop: readonly string[]): CreateOptions['capabilities'] {
  if (add.length === 0 && drop.length === 0) return undefined;
  return { ...(add.length > 0 && { add }), ...(drop.length > 0 && { drop }) };
}
