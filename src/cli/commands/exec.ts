import { mainExecution } from '../../api/index.js';
import { noMain } from '../../base/not-running.js';
import { envFile, fromPairs } from '../box-options.js';
import { createCommand } from '../command.js';
import { refusedExecOptions } from '../refused.js';
import { runSession, terminalSize } from '../session.js';
import {
  commandLine,
  flag,
  many,
  optional,
  refuseOptionWord,
  required,
  several,
  text,
  value,
} from '../specs.js';
import { executionIdOf, requireBox } from '../targets.js';
import { parseDurationMs, parseEnvironment } from '../values.js';

export const exec = createCommand({
  name: 'exec',
  summary: 'run a command in a box',
  args: {
    box: required('box', 'name or id'),
    command: several('command', 'command with its arguments'),
  },
  options: {
    interactive: flag('-i, --interactive', 'pass stdin to the command'),
    tty: flag('-t, --tty', 'give the command a terminal'),
    detach: flag('-d, --detach', 'leave the command running and print the id of the execution'),
    env: many('-e, --env <KEY=VALUE>', 'environment variable; KEY alone takes ours', parseEnvironment),
    envFile,
    workdir: text('-w, --workdir <directory>', 'working directory'),
    user: text('-u, --user <user>', 'name, uid, or user:group'),
    timeout: value('--timeout <duration>', 'kill the command after this time', parseDurationMs),
  },
  refused: refusedExecOptions,
  passThrough: true,
  async handler(context, args, options) {
    const { interactive, tty, detach } = options;
    refuseOptionWord(args.command, args.box, 'box');
    const box = await requireBox(context, args.box);
    const execution = await box.startExec(commandLine(args.command), {
      stdin: interactive,
      tty: tty && terminalSize(context.streams),
      env: fromPairs([...options.envFile.flat(), ...options.env]),
      cwd: options.workdir,
      user: options.user,
      timeoutMs: options.timeout,
      signal: context.signal,
    });
    if (detach) {
      await execution.detach();
      await context.stdout.line(execution.id);
      return 0;
    }
    await using _ = execution;
    return await runSession(context, execution, { interactive, tty });
  },
});

export const attach = createCommand({
  name: 'attach',
  summary: 'attach to the main command, or to an execution that was left running',
  args: {
    box: required('box', 'name or id'),
    execution: optional('execution', 'id of the execution (default: the main command)'),
  },
  options: { interactive: flag('-i, --interactive', 'pass stdin to the command') },
  async handler(context, args, { interactive }) {
    const box = await requireBox(context, args.box);
    const { signal } = context;
    if (args.execution === undefined && (await box.info({ signal })).main === null) throw noMain(box.id);
    const { execution: named } = args;
    const id = named === undefined ? mainExecution : await executionIdOf(context, box, named);
    const execution = await box.executions.attach(id, { stdin: interactive, signal });
    await using _ = execution;
    const tty = (await box.executions.get(execution.id, { signal }))?.tty ?? false;
    const lost = execution.droppedBytes.stdout + execution.droppedBytes.stderr;
    if (lost > 0) await context.stderr.line(`${lost} bytes of earlier output were dropped`);
    return await runSession(context, execution, { interactive, tty });
  },
});
