import type { Box } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { boxOptionSpecs, splitOperands, toCreateOptions } from '../box-options.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { runSession, terminalSize } from '../session.js';
import { flag, optional, rest, value } from '../specs.js';
import { parseDurationMs } from '../values.js';

const operands = {
  image: optional('image', 'reference of an image; none with --template'),
  command: rest('command', "command with its arguments (default: the image's)"),
};

export const create = createCommand({
  name: 'create',
  summary: 'make a box, start it and print its id',
  args: operands,
  options: boxOptionSpecs,
  passThrough: true,
  async handler(context, args, options) {
    const { image, command: cmd } = splitOperands(args, options.template);
    const box = await createBox(context, image, { ...options, ...(cmd.length > 0 && { cmd }) });
    await context.stdout.line(box.id);
  },
});

export const run = createCommand({
  name: 'run',
  summary: 'run a command in a new box',
  args: operands,
  options: {
    ...boxOptionSpecs,
    interactive: flag('-i, --interactive', 'pass stdin to the command'),
    tty: flag('-t, --tty', 'give the command a terminal'),
    rm: flag('--rm', 'remove the box when the command has ended'),
    detach: flag('-d, --detach', 'leave the command running and print the id of the box'),
    timeout: value('--timeout <duration>', 'kill the command after this time', parseDurationMs),
  },
  passThrough: true,
  async handler(context, args, options) {
    if (options.detach && options.rm) {
      throw new CryoboxError('invalid_argument', '--detach and --rm exclude each other');
    }
    const { image, command } = splitOperands(args, options.template);
    const box = await createBox(context, image, options, options.rm);
    if (options.detach) return await detached(context, box, command, options);
    try {
      return await attached(context, box, command, options);
    } finally {
      // Not with the context's signal: Ctrl-C must leave nothing behind.
      if (options.rm) await box.remove({ force: true });
      else await box.stop();
    }
  },
});

interface CommandOptions {
  readonly interactive: boolean;
  readonly tty: boolean;
  readonly timeout: number | undefined;
}

async function createBox(
  context: Context,
  image: string | undefined,
  options: Parameters<typeof toCreateOptions>[1] & { readonly cmd?: readonly string[] },
  ephemeral = false,
): Promise<Box> {
  const runtime = await context.runtime();
  return await context.withProgress((onProgress) =>
    runtime.create({
      ...toCreateOptions(image, options),
      cmd: options.cmd,
      // Closing the runtime removes what is not detached, should our own removal fail.
      detach: !ephemeral,
      onProgress,
      signal: context.signal,
    }),
  );
}

async function attached(
  context: Context,
  box: Box,
  command: readonly string[],
  { interactive, tty, timeout }: CommandOptions,
): Promise<number> {
  const execution = await box.startExec(await fullCommand(context, box, command), {
    stdin: interactive,
    tty: tty && terminalSize(context.streams),
    timeoutMs: timeout,
    signal: context.signal,
  });
  await using _ = execution;
  return await runSession(context, execution, { interactive, tty });
}

/** With a command, that one is left running; without one the box alone is. */
async function detached(
  context: Context,
  box: Box,
  command: readonly string[],
  { tty, timeout }: CommandOptions,
): Promise<number> {
  const { entrypoint, cmd } = await box.info({ signal: context.signal });
  if (command.length + entrypoint.length + cmd.length > 0) {
    const argv = await fullCommand(context, box, command);
    const execution = await box.startExec(argv, { tty, timeoutMs: timeout, signal: context.signal });
    await execution.detach();
  }
  await context.stdout.line(box.id);
  return 0;
}

/** Entrypoint and command, as the image's configuration means them (OCI image-spec, config.md, "Entrypoint"). */
async function fullCommand(
  context: Context,
  box: Box,
  command: readonly string[],
): Promise<readonly string[]> {
  const { entrypoint, cmd } = await box.info({ signal: context.signal });
  const argv = [...entrypoint, ...(command.length > 0 ? command : cmd)];
  if (argv.length === 0) {
    throw new CryoboxError('invalid_argument', 'No command was given, and the image names none', {
      hint: 'Write the command after the image, such as `cryobox run IMAGE -- sh`.',
    });
  }
  return argv;
}
