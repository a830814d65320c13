import { z } from 'zod';
import { within } from '../../base/within.js';
import type { BackgroundCommand } from '../conversation.js';
import { mcpLimits } from '../options.js';
import { commandAnswer, endOf, runCommand } from '../run-command.js';
import { type Tool, type ToolAnswer, type ToolCall, tool } from '../tool.js';
import { box, cwd, maxProgramLength, timeoutMs } from './inputs.js';

const command = z.string().min(1).max(maxProgramLength).describe('A line for /bin/sh');
const id = z.string().min(1).max(128).describe('What start_command answered');

/** What a command in the background wrote so far, and how it ended if it has. */
async function stateOf(
  { box, execution, stdout, stderr }: BackgroundCommand,
  { signal }: ToolCall,
): Promise<ToolAnswer> {
  const info = await box.executions.get(execution.id, { signal });
  const [out, err] = [stdout.kept(), stderr.kept()];
  const running = info?.status === 'running';
  const end =
    info === null || running
      ? 'running'
      : endOf({
          exitCode: info.exitCode,
          signal: info.signal,
          timedOut: info.status === 'timed_out',
          durationMs: info.durationMs ?? 0,
        });
  const text = [out.text, err.text && `stderr:\n${err.text}`, end].filter(Boolean).join('\n');
  return {
    text,
    data: {
      id: execution.id,
      running,
      exitCode: info?.exitCode ?? null,
      signal: info?.signal ?? null,
      stdout: out.text,
      stderr: err.text,
      cutBytes: { stdout: out.cutBytes, stderr: err.cutBytes },
    },
  };
}

/** Tools that run programs. */
export const commandTools: readonly Tool[] = [
  tool({
    name: 'run_command',
    title: 'Run a command',
    description:
      'Runs a shell line in the box and answers with its output and exit code. Long output is cut in its middle; write it to a file and use search_files or read_file to see more.',
    scope: 'box:exec',
    effect: 'change',
    input: {
      command,
      box,
      cwd,
      timeoutMs,
      user: z.string().min(1).max(256).optional().describe('Name or uid it runs as'),
      env: z.record(z.string(), z.string()).optional(),
      stdin: z.string().max(mcpLimits.writtenBytes).optional().describe('What it reads from its input'),
    },
    async run({ command, box, stdin, ...options }, call) {
      const where = await call.conversation.box(box, call);
      return commandAnswer(
        await runCommand(where, ['sh', '-c', command], { ...options, input: stdin }, call),
      );
    },
  }),
  tool({
    name: 'run_python',
    title: 'Run Python',
    description:
      'Runs a Python program in the box and answers with what it prints. Each call is a new process.',
    scope: 'box:exec',
    effect: 'change',
    input: { code: z.string().min(1).max(maxProgramLength), box, cwd, timeoutMs },
    async run({ code, box, ...options }, call) {
      const where = await call.conversation.box(box, call);
      return commandAnswer(await runCommand(where, ['python3', '-'], { ...options, input: code }, call));
    },
  }),
  tool({
    name: 'start_command',
    title: 'Start a command in the background',
    description: 'Starts a shell line that goes on, such as a server, and answers with its id.',
    scope: 'box:exec',
    effect: 'change',
    input: { command, box, cwd },
    async run({ command, box, cwd }, call) {
      const { conversation, signal } = call;
      await conversation.makeRoom({ signal });
      const where = await conversation.box(box, call);
      const execution = await where.startExec(['sh', '-c', command], { cwd, signal });
      conversation.keep(where, execution);
      return { text: `started as ${execution.id}`, data: { id: execution.id, box: where.id } };
    },
  }),
  tool({
    name: 'read_output',
    title: 'Read the output of a command in the background',
    description: 'What a command that start_command began wrote so far, and whether it still runs.',
    scope: 'box:exec',
    effect: 'read',
    input: {
      id,
      waitMs: z.number().int().min(0).max(60_000).default(0).describe('Waits this long for its end'),
    },
    async run({ id, waitMs }, call) {
      const command = call.conversation.command(id);
      if (waitMs > 0) await within(command.ended, waitMs, call.signal);
      return await stateOf(command, call);
    },
  }),
  tool({
    name: 'stop_command',
    title: 'Stop a command in the background',
    description: 'Kills a command that start_command began, with all its children.',
    scope: 'box:exec',
    effect: 'destroy',
    idempotent: true,
    input: { id },
    async run({ id }, call) {
      const command = call.conversation.command(id);
      await command.box.executions.kill(id, { signal: call.signal });
      await command.ended;
      return await stateOf(command, call);
    },
  }),
];
