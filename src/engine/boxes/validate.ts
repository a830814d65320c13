import { boxLimits, type CreateOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { checkVolumeMounts } from '../volumes/check.js';

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** Names are also path segments of the REST API, so they hold nothing that a URL gives a meaning (v1, section 1.5). */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/;
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

/** Options that a new box takes; the type makes sure that none is forgotten. */
const knownOptions: Readonly<Record<keyof CreateOptions, true>> = {
  image: true,
  template: true,
  name: true,
  cpus: true,
  memoryMiB: true,
  diskSizeGb: true,
  env: true,
  workingDir: true,
  user: true,
  entrypoint: true,
  cmd: true,
  labels: true,
  autoStop: true,
  autoStopAction: true,
  autoDelete: true,
  autoResume: true,
  detach: true,
  network: true,
  capabilities: true,
  volumes: true,
  signal: true,
  onProgress: true,
  operationId: true,
};

/** What users of similar tools ask for and is not there yet: refused by name, never ignored. */
function refuseUnknown(options: CreateOptions): void {
  const given = [
    ...Object.entries(options).filter(([name, value]) => !(name in knownOptions) && value !== undefined),
    ...Object.entries(options.network ?? {})
      .filter(([name, value]) => name !== 'outbound' && value !== undefined)
      .map(([name, value]) => [`network.${name}`, value] as const),
  ].map(([name]) => name);
  if (given.length === 0) return;
  throw new CryoboxError('unsupported', `not supported: ${given.join(', ')}`, {
    details: { options: given },
  });
}

/** Throws `invalid_argument` when an option of a new box is out of range, `unsupported` naming one that is not known. */
export function checkCreateOptions(options: CreateOptions): void {
  refuseUnknown(options);
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
  checkEnv(options.env);
  checkLabels(options.labels);
  checkVolumeMounts(options.volumes);
  if (options.workingDir !== undefined && !options.workingDir.startsWith('/')) {
    throw invalid(`workingDir must be an absolute path, got ${JSON.stringify(options.workingDir)}`);
  }
  if (options.user === '') throw invalid('user must not be empty');
  checkChoice('network.outbound', options.network?.outbound, ['enabled', 'disabled']);
  checkChoice('autoStopAction', options.autoStopAction, ['stop', 'pause']);
  for (const name of [...(options.capabilities?.add ?? []), ...(options.capabilities?.drop ?? [])]) {
    if (!capabilityPattern.test(name))
      throw invalid(`capabilities holds ${JSON.stringify(name)}, which is no capability`);
  }
}

function checkSource({ image, template }: CreateOptions): void {
  if (image !== undefined && template !== undefined) throw invalid('give image or template, not both');
  if (image === undefined && template === undefined) throw invalid('image or template is missing');
  if (image === '') throw invalid('image must not be empty');
}

/** Throws `invalid_argument` unless a value is absent or a whole number within bounds. */
export function checkInteger(name: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined) return;
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw invalid(`${name} must be a whole number from ${min} to ${max}, got ${value}`);
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

function checkLabels(labels: CreateOptions['labels']): void {
  const entries = Object.entries(labels ?? {});
  if (entries.length > boxLimits.labels)
    throw invalid(`at most ${boxLimits.labels} labels, got ${entries.length}`);
  for (const [name, value] of entries) {
    if (name === '' || name.length + value.length > boxLimits.labelLength) {
      throw invalid(`label ${JSON.stringify(name)} is empty or over ${boxLimits.labelLength} characters`);
    }
  }
}
