import type { CreateOptions, DiskLimits, NetworkOptions } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { parseEnvFile } from './env-file.js';
import { parseSecret, secretOptions } from './secret-values.js';
import { commandLine, flag, many, refuseOptionWord, text, value } from './specs.js';
import {
  oneOf,
  parseBytes,
  parseCount,
  parseDiskGb,
  parseDurationSeconds,
  parseEnvironment,
  parseLabel,
  parseMemoryMiB,
  parseMount,
  parseNetwork,
  parsePublish,
  parseVolume,
} from './values.js';

/** The `--env-file` option. */
export const envFile = many('--env-file <file>', 'file of KEY=VALUE lines', parseEnvFile);

/** Options for the limits of a box's disks. */
export const diskLimitSpecs = {
  diskReadBps: value('--disk-read-bps <size>', 'bytes a second that its disks are read at most', parseBytes),
  diskWriteBps: value('--disk-write-bps <size>', 'bytes a second written at most', parseBytes),
  diskReadIops: value('--disk-read-iops <count>', 'reads a second at most', parseCount),
  diskWriteIops: value('--disk-write-iops <count>', 'writes a second at most', parseCount),
};

const word = (raw: string) => raw;

/** Options of commands that make a box. */
export const boxOptionSpecs = {
  name: text('--name <name>', 'name of the box'),
  hostname: text('-h, --hostname <name>', 'host name of the box (default: its name)'),
  template: text('--template <name>', 'start from a template instead of an image'),
  cpus: value('--cpus <count>', 'virtual processors (default: 1)', parseCount),
  memory: value('-m, --memory <size>', 'MiB, or a size such as 512m or 2g (default: 512m)', parseMemoryMiB),
  disk: value('--disk <size>', 'size of the file system in GiB (default: 10)', parseDiskGb),
  ...diskLimitSpecs,
  env: many('-e, --env <KEY=VALUE>', 'environment variable; KEY alone takes ours', parseEnvironment),
  envFile,
  workdir: text('-w, --workdir <directory>', 'working directory'),
  user: text('-u, --user <user>', 'name, uid, or user:group'),
  entrypoint: text('--entrypoint <program>', "replaces the image's entrypoint"),
  label: many('-l, --label <KEY=VALUE>', 'label', parseLabel),
  network: value('--network, --net <mode>', 'outbound or none (default: outbound)', parseNetwork),
  allowNet: many(
    '--allow-net <rule>',
    'reaches only what is allowed: name, *.suffix, address or range, [:port]',
    word,
  ),
  denyNet: many('--deny-net <rule>', 'address or range that is not reached', word),
  netSendBps: value('--net-send-bps <size>', 'bytes a second that its connections send at most', parseBytes),
  netReceiveBps: value('--net-receive-bps <size>', 'bytes a second that they get at most', parseBytes),
  publish: many(
    '-p, --publish <[[ip:]port:]port>',
    'has a port of this host, on 127.0.0.1, lead to one of the box',
    parsePublish,
  ),
  secret: many(
    '--secret <NAME[=FILE]@host,...>',
    'has requests to these hosts get what FILE holds, or our variable NAME; the box gets a placeholder',
    parseSecret,
  ),
  volume: many('-v, --volume <name:path[:ro]>', 'mounts a volume', parseVolume),
  mount: many(
    '--mount <type=volume,...>',
    'mounts a volume: source=NAME,target=/PATH[,readonly]',
    parseMount,
  ),
  pull: value(
    '--pull <policy>',
    'always, missing or never (default: missing)',
    oneOf('always', 'missing', 'never'),
  ),
  platform: text(
    '--platform <platform>',
    "of image and machine, such as linux/arm64, which may be emulated (default: this host's)",
  ),
  init: flag('--init', 'no effect: every box has an init'),
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
  lifetime: value(
    '--lifetime <duration>',
    'ends each run of the box after this time, used or not',
    parseDurationSeconds,
  ),
  lifetimeAction: value(
    '--lifetime-action <action>',
    'stop, pause or remove (default: stop)',
    oneOf('stop', 'pause', 'remove'),
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
  refuseOptionWord(command, image, 'image');
  return { image, command: commandLine(command) };
}

/** {@link CreateOptions} of what the command line says. Only what was given is set, so that defaults stay the engine's. */
export function toCreateOptions(image: string | undefined, options: BoxOptionValues): CreateOptions {
  const volumes = [...options.volume, ...options.mount];
  return {
    image,
    platform: options.platform,
    template: options.template,
    name: options.name,
    cpus: options.cpus,
    memoryMiB: options.memory,
    diskSizeGb: options.disk,
    hostname: options.hostname,
    env: fromPairs([...options.envFile.flat(), ...options.env]),
    workingDir: options.workdir,
    user: options.user,
    entrypoint: options.entrypoint === undefined ? undefined : [options.entrypoint],
    labels: fromPairs(options.label),
    network: networkOptions(options),
    diskLimits: toDiskLimits(options),
    volumes: volumes.length === 0 ? undefined : volumes,
    ports: options.publish.length === 0 ? undefined : options.publish,
    secrets: secretOptions(options.secret),
    capabilities: capabilities(options.capAdd, options.capDrop),
    autoStop: options.autoStop,
    autoStopAction: options.autoStopAction,
    autoDelete: options.autoDelete,
    lifetime: options.lifetime,
    lifetimeAction: options.lifetimeAction,
    autoResume: options.autoResume ? undefined : false,
  };
}

/** What the command line says of the speed of disks; undefined when it says nothing. */
export function toDiskLimits(
  options: {
    readonly [K in keyof typeof diskLimitSpecs]: (typeof diskLimitSpecs)[K]['initial'];
  },
): DiskLimits | undefined {
  const { diskReadBps, diskWriteBps, diskReadIops, diskWriteIops } = options;
  const limits = {
    ...(diskReadBps !== undefined && { readBytesPerSecond: diskReadBps }),
    ...(diskWriteBps !== undefined && { writeBytesPerSecond: diskWriteBps }),
    ...(diskReadIops !== undefined && { readOperationsPerSecond: diskReadIops }),
    ...(diskWriteIops !== undefined && { writeOperationsPerSecond: diskWriteIops }),
  };
  return Object.keys(limits).length === 0 ? undefined : limits;
}

/** What the command line says of a network; undefined when it says nothing. */
export function networkOptions(
  options: Pick<BoxOptionValues, 'network' | 'allowNet' | 'denyNet' | 'netSendBps' | 'netReceiveBps'>,
): NetworkOptions | undefined {
  const { network, allowNet, denyNet, netSendBps, netReceiveBps } = options;
  const rateLimit = {
    ...(netSendBps !== undefined && { sendBytesPerSecond: netSendBps }),
    ...(netReceiveBps !== undefined && { receiveBytesPerSecond: netReceiveBps }),
  };
  const isLimited = Object.keys(rateLimit).length > 0;
  if (network === undefined && allowNet.length === 0 && denyNet.length === 0 && !isLimited) return undefined;
  return {
    ...(network && { outbound: network === 'none' ? 'disabled' : 'enabled' }),
    ...(allowNet.length > 0 && { allowNet }),
    ...(denyNet.length > 0 && { denyNet }),
    ...(isLimited && { rateLimit }),
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
