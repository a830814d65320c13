/** A Dockerfile as stages and steps. What its instructions mean is decided where they run. */
import { DockerfileParser, type Instruction, type ModifiableInstruction } from 'dockerfile-ast';
import { buildLimits } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';

/** One instruction. */
export interface Step {
  /** In upper case. */
  readonly keyword: string;
  /** Counted from 1. */
  readonly line: number;
  /** The instruction in one line, as it is shown. */
  readonly text: string;
  /** Behind the keyword and the flags, lines put together. */
  readonly rest: string;
  /** `--name=value`. */
  readonly flags: ReadonlyMap<string, string>;
  /** Of an instruction that is written as a JSON list of texts. */
  readonly list: readonly string[] | undefined;
}

/** A stage: what begins with FROM. */
export interface Stage {
  readonly name: string | undefined;
  readonly from: Step;
  readonly steps: readonly Step[];
}

/** A Dockerfile. */
export interface Dockerfile {
  /** ARG before the first FROM. */
  readonly globals: readonly Step[];
  readonly stages: readonly Stage[];
}

/** What is refused by name, and what does the same. */
const refusals: Readonly<Record<string, string>> = {
  HEALTHCHECK: 'Boxes have no health check: call `box.waitForPort` or run the check by `box.exec`.',
  ONBUILD: 'Write the steps into the Dockerfile that begins with this image.',
  MAINTAINER: 'Write it as LABEL maintainer=NAME.',
};
const known = new Set(
  'FROM RUN COPY ADD ENV ARG USER WORKDIR CMD ENTRYPOINT LABEL EXPOSE SHELL STOPSIGNAL VOLUME'.split(' '),
);
const knownFlags: Readonly<Record<string, readonly string[]>> = {
  FROM: ['platform'],
  COPY: ['from', 'chown', 'chmod', 'link'],
  ADD: ['chown', 'chmod', 'link'],
};
const flagHints: Readonly<Record<string, string>> = {
  mount: 'Copy what the step needs by COPY; results of steps are kept anyway.',
  network: 'Leave it out: steps reach the public internet.',
  security: 'Leave it out: every step has a machine of its own.',
};
const listForms = new Set(['RUN', 'CMD', 'ENTRYPOINT', 'SHELL', 'COPY', 'ADD', 'VOLUME']);

/** Reads a Dockerfile. Throws `invalid_argument` naming the line, `unsupported` for what is not built. */
export function parseDockerfile(text: string): Dockerfile {
  if (Buffer.byteLength(text) > buildLimits.dockerfileBytes) {
    throw new CryoboxError(
      'payload_too_large',
      `the Dockerfile has more than ${buildLimits.dockerfileBytes} bytes`,
    );
  }
  const parsed = DockerfileParser.parse(text);
  const escapeChar = parsed.getEscapeCharacter();
  const steps = parsed.getInstructions().map((each) => stepOf(each, escapeChar));
  if (steps.length > buildLimits.steps) {
    throw new CryoboxError('resource_exhausted', `the Dockerfile has more than ${buildLimits.steps} steps`);
  }
  const first = steps.findIndex(({ keyword }) => keyword === 'FROM');
  const globals = first < 0 ? steps : steps.slice(0, first);
  const odd = globals.find(({ keyword }) => keyword !== 'ARG');
  if (odd) throw badStep(odd, 'stands before the first FROM, where only ARG may');
  if (first < 0) {
    throw new CryoboxError('invalid_argument', 'the Dockerfile has no FROM', {
      hint: 'Begin with the image that the steps stand on, such as `FROM debian-python`.',
    });
  }
  const stages: { name: string | undefined; from: Step; steps: Step[] }[] = [];
  for (const step of steps.slice(first)) {
    if (step.keyword === 'FROM') stages.push({ name: stageName(step), from: step, steps: [] });
    else stages.at(-1)?.steps.push(step);
  }
  return { globals, stages };
}

function stepOf(instruction: Instruction, escapeChar: string): Step {
  const keyword = instruction.getKeyword();
  const line = (instruction.getRange()?.start.line ?? 0) + 1;
  const rest = joined(instruction.getRawArgumentsContent() ?? '', escapeChar);
  const flags = new Map<string, string>();
  if ('getFlags' in instruction) {
    for (const flag of (instruction as ModifiableInstruction).getFlags())
      flags.set(flag.getName(), flag.getValue() ?? '');
  }
  const shown = [...flags].map(([name, value]) => `--${name}${value === '' ? '' : `=${value}`}`);
  const oneLine = [keyword, ...shown, rest].join(' ').replace(/\s+/g, ' ').slice(0, 200);
  const list = listForms.has(keyword) ? listOf(rest) : undefined;
  const step: Step = { keyword, line, text: oneLine, rest, flags, list };
  check(step);
  return step;
}

function check(step: Step): void {
  const { keyword, line, flags, rest } = step;
  const hint = refusals[keyword];
  if (hint !== undefined) throw refused(`${keyword} (line ${line})`, hint);
  if (!known.has(keyword)) throw badStep(step, 'is no instruction that is known');
  if (rest === '') throw badStep(step, 'says nothing behind its name');
  for (const name of flags.keys()) {
    if (knownFlags[keyword]?.includes(name)) continue;
    const what = `${keyword} --${name} (line ${line})`;
    throw refused(what, flagHints[name] ?? 'Leave the flag out.');
  }
  if ((keyword === 'RUN' || keyword === 'COPY' || keyword === 'ADD') && /(^|[\s;&|])<<-?["']?\w/.test(rest)) {
    const more = 'Write the lines into a file of the context, or into one line with `&& \\`.';
    throw refused(`a here-document (line ${line})`, more);
  }
}

/** What is not built, told by name. */
export function refused(what: string, hint: string): CryoboxError {
  return new CryoboxError('unsupported', `${what} is not supported in builds`, { hint });
}

/** A step that makes no sense. */
export function badStep({ line, text }: Step, fault: string): CryoboxError {
  return new CryoboxError('invalid_argument', `line ${line} of the Dockerfile ${fault}: ${text}`, {
    details: { line },
  });
}

/** Lines that an escape goes on with as one; comments between them are none of it. */
function joined(text: string, escapeChar: string): string {
  const lines = text.split(/\r?\n/).filter((line, i) => i === 0 || !/^\s*(#|$)/.test(line));
  return lines
    .map((line, i) => {
      const bare = line.trimEnd();
      return i < lines.length - 1 && bare.endsWith(escapeChar) ? bare.slice(0, -1) : line;
    })
    .join('')
    .trim();
}

/** A JSON list of texts; anything else is a line for the shell. */
function listOf(rest: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined;
  try {
    const value: unknown = JSON.parse(rest);
    const isList = Array.isArray(value) && value.every((item) => typeof item === 'string');
    return isList ? (value as string[]) : undefined;
  } catch {
    return undefined;
  }
}

function stageName(step: Step): string | undefined {
  const words = step.rest.split(/\s+/);
  if (words.length === 1) return undefined;
  const [, as, name] = words;
  if (words.length !== 3 || as?.toUpperCase() !== 'AS' || !/^[a-z][a-z0-9_.-]*$/i.test(name ?? '')) {
    throw badStep(step, 'should be FROM IMAGE or FROM IMAGE AS NAME');
  }
  return name?.toLowerCase();
}
