import { boxLimits, type CreateOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { parsePlatform } from '../../formats/oci/index.js';
import { normalNetwork } from '../../network/index.js';
import { checkDiskLimits } from './disk-limits.js';
import { checkInteger } from './integers.js';
import { checkPorts } from './ports.js';
import { newSecrets } from './secrets.js';
import { checkVolumeMounts } from './volume-mounts.js';

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** Names are also path segments of the REST API, so they hold nothing that a URL gives a meaning (v1, section 1.5). */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/;
/** Labels of letters, digits and hyphens (RFC 1123, section 2.1), as long as sethostname(2) takes. */
const hostnamePattern =
  /^(?=.{1,64}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*$/;
const envNamePattern = /^[^=\0]+$/;
const capabilityPattern = /^(CAP_)?[A-Z_]+$|^ALL$/;

/** Kernel limit of one string of a new process's environment (MAX_ARG_STRLEN, execve(2)). */
const maxEnvBytes = 128 * 1024;

/** Throws `invalid_argument` unless a name is one a box or template may have. */
export function checkName(name: string, what = 'name'): void {
  const shown = JSON.stringify(name.slice(0, 40));
  if (name === '') throw invalid(`${what} must not be empty`);
  if (name.length > boxLimits.nameLength) {
    throw invalid(`${what} must have at most ${boxLimits.nameLength} characters, got ${name.length}`);
  }
  if (!namePattern.test(name)) {
    throw invalid(
      `${what} must start with a letter or digit and hold only letters, digits, ".", "_" and "-", got ${shown}`,
    );
  }
}

const networkOptions = ['outbound', 'allowNet', 'denyNet', 'rateLimit'];

/** What users of similar tools ask for and is not there yet: refused by name, never ignored. */
function refuseUnknownNetwork(network: CreateOptions['network']): void {
  const given = Object.entries(network ?? {})
    .filter(([name, value]) => !networkOptions.includes(name) && value !== undefined)
    .map(([name]) => `network.${name}`);
  if (given.length === 0) return;
  throw new CryoboxError('unsupported', `not supported: ${given.join(', ')}`, {
    details: { options: given },
  });
}

/**
 * Throws `invalid_argument` when an option of a new box is out of range, `unsupported` naming one of its network that is not
 * known. Those of the box itself were checked by name before (src/surface).
 */
export function checkCreateOptions(options: CreateOptions): void {
  refuseUnknownNetwork(options.network);
  if (options.name !== undefined) checkName(options.name);
  checkSource(options);
  checkInteger('cpus', options.cpus, boxLimits.cpus.min, boxLimits.cpus.max);
  checkInteger('memoryMiB', options.memoryMiB, boxLimits.memoryMiB.min, boxLimits.memoryMiB.max);
  checkInteger('diskSizeGb', options.diskSizeGb, boxLimits.diskSizeGb.min, boxLimits.diskSizeGb.max);
  checkInteger('autoStop', options.autoStop, 0, boxLimits.timerSeconds);
  checkInteger('autoDelete', options.autoDelete, 0, boxLimits.timerSeconds);
  const { autoStop = 0, autoDelete = 0 } = options;
  if (autoDelete !== 0 && autoDelete <= autoStop) {
    throw invalid(`autoDelete must exceed autoStop, got ${autoDelete} and ${autoStop}`);
  }
  checkLifetime('lifetime', options.lifetime);
  checkLifetimeAction('lifetimeAction', options.lifetimeAction);
  checkWords('entrypoint', options.entrypoint);
  checkWords('cmd', options.cmd);
  if (options.tty !== undefined && typeof options.tty !== 'boolean')
    throw invalid('tty must be true or false');
  checkEnv(options.env);
  checkLabels(options.labels);
  checkVolumeMounts(options.volumes);
  checkPorts(options.ports);
  if (options.workingDir !== undefined && !options.workingDir.startsWith('/')) {
    throw invalid(`workingDir must be an absolute path, got ${JSON.stringify(options.workingDir)}`);
  }
  if (options.hostname !== undefined && !hostnamePattern.test(options.hostname)) {
    throw invalid(
      `hostname must have 1 to 64 letters, digits, dots and hyphens, got ${JSON.stringify(options.hostname)}`,
    );
  }
  if (options.user === '') throw invalid('user must not be empty');
  checkNetwork(options.network);
  checkDiskLimits(options.diskLimits ?? undefined);
  checkSecrets(options);
  checkChoice('autoStopAction', options.autoStopAction, ['stop', 'pause']);
  for (const name of [...(options.capabilities?.add ?? []), ...(options.capabilities?.drop ?? [])]) {
    if (!capabilityPattern.test(name))
      throw invalid(`capabilities holds ${JSON.stringify(name)}, which is no capability`);
  }
}

/** Throws `invalid_argument` for a number of seconds that no run can last. */
export function checkLifetime(name: string, seconds: number | undefined): void {
  checkInteger(name, seconds, 0, boxLimits.timerSeconds);
}

/** Throws `invalid_argument` for what cannot become of a box at the end of its lifetime. */
export function checkLifetimeAction(name: string, action: string | undefined): void {
  checkChoice(name, action, ['stop', 'pause', 'remove']);
}

function checkSecrets({ secrets, env }: CreateOptions): void {
  if (secrets === undefined) return;
  if (typeof secrets !== 'object' || secrets === null || Array.isArray(secrets)) {
    throw invalid('secrets must be an object, with a name for each of them');
  }
  newSecrets(secrets, env);
}

/** Throws `invalid_argument` for a network that no box can have, `unsupported` for IPv6. */
export function checkNetwork(options: CreateOptions['network']): void {
  checkChoice('network.outbound', options?.outbound, ['enabled', 'disabled']);
  normalNetwork(options);
}

function checkSource({ image, template, platform }: CreateOptions): void {
  if (platform !== undefined) parsePlatform(platform);
  if (template !== undefined && platform !== undefined)
    throw invalid('platform is given with a template, which decides it: leave it out');
  if (image !== undefined && template !== undefined) throw invalid('give image or template, not both');
  if (image === undefined && template === undefined) throw invalid('image or template is missing');
  if (image === '') throw invalid('image must not be empty');
}

function checkChoice(name: string, value: string | undefined, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value)) return;
  throw invalid(`${name} must be one of ${choices.join(', ')}, got ${JSON.stringify(value)}`);
}

/** Throws `invalid_argument` when an environment cannot be given to a process. */
export function checkEnv(env: Readonly<Record<string, string>> | undefined): void {
  for (const [name, value] of Object.entries(env ?? {})) {
    if (!envNamePattern.test(name)) throw invalid(`env holds the bad name ${JSON.stringify(name)}`);
    if (typeof value !== 'string' || value.includes('\0'))
      throw invalid(`env.${name} must be text without NUL`);
    if (Buffer.byteLength(value) > maxEnvBytes) throw invalid(`env.${name} is over ${maxEnvBytes} bytes`);
  }
}

function checkWords(name: string, words: readonly string[] | undefined): void {
  if (words === undefined) return;
  const fits = (word: unknown): boolean => typeof word === 'string' && !word.includes('\0');
  if (!Array.isArray(words) || !words.every(fits))
    throw invalid(`${name} must be a list of texts without NUL`);
}

/** Throws `invalid_argument` unless labels are what a box or template may have. */
export function checkLabels(labels: CreateOptions['labels']): void {
  const entries = Object.entries(labels ?? {});
  if (entries.length > boxLimits.labels)
    throw invalid(`at most ${boxLimits.labels} labels, got ${entries.length}`);
  for (const [name, value] of entries) {
    if (name === '' || name.length + value.length > boxLimits.labelLength) {
      throw invalid(`label ${JSON.stringify(name)} is empty or over ${boxLimits.labelLength} characters`);
    }
  }
}
