import { z } from 'zod';
import type { Box } from '../../api/index.js';
import { messageOf } from '../../errors.js';
import { mcpLimits } from '../options.js';
import { commandAnswer, runCommand } from '../run-command.js';
import { type Tool, type ToolCall, tool } from '../tool.js';
import { box, cwd, maxProgramLength, timeoutMs } from './inputs.js';

const name = z.string().min(1).max(255).describe('Name of the snapshot');

/** What became of one child of a fork. */
interface Branch {
  readonly command: string;
  readonly text: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Runs a command in a child of a fork; a failure is told beside the results of the others. */
async function branch(
  child: Box,
  command: string,
  options: { readonly timeoutMs: number; readonly cwd?: string | undefined },
  call: ToolCall,
): Promise<Branch> {
  const silent = { signal: call.signal, progress: () => undefined };
  try {
    const { text, data } = commandAnswer(await runCommand(child, ['sh', '-c', command], options, silent));
    return { command, text, data: { box: child.id, command, ...data } };
  } catch (error) {
    call.signal.throwIfAborted();
    return { command, text: messageOf(error), data: { box: child.id, command, error: messageOf(error) } };
  }
}

/** Tools that go back and forth between states of a box. */
export const stateTools: readonly Tool[] = [
  tool({
    name: 'snapshot',
    title: 'Take a snapshot',
    description:
      'Keeps the box as it is, with its files and its running programs, under a name to roll back to.',
    scope: 'box:write',
    effect: 'change',
    input: { name, box },
    async run({ name, box }, call) {
      const where = await call.conversation.existingBox(box, call);
      const { sizeBytes } = await where.snapshot.create(name, { memory: true, signal: call.signal });
      return { text: `snapshot ${name}: ${sizeBytes} bytes`, data: { name, box: where.id, sizeBytes } };
    },
  }),
  tool({
    name: 'list_snapshots',
    title: 'List snapshots',
    description: 'The snapshots of a box, newest first.',
    scope: 'box:read',
    effect: 'read',
    input: { box },
    async run({ box }, { conversation, signal }) {
      const where = await conversation.existingBox(box, { signal });
      const found = await where.snapshot.list({ signal });
      const snapshots = found.slice(0, mcpLimits.entries).map((it) => ({
        name: it.name,
        createdAt: it.createdAt.toISOString(),
        sizeBytes: it.sizeBytes,
        memory: it.hasMemory,
        parent: it.parent,
      }));
      const lines = snapshots.map((it) => `${it.name}\t${it.createdAt}`);
      return {
        text: lines.join('\n') || 'no snapshots',
        data: { snapshots, cut: found.length > snapshots.length },
      };
    },
  }),
  tool({
    name: 'rollback',
    title: 'Roll back to a snapshot',
    description:
      'Puts a box back to a snapshot, with its files and programs of then. What came since is gone.',
    scope: 'box:write',
    effect: 'destroy',
    idempotent: true,
    input: { name, box },
    async run({ name, box }, { conversation, signal }) {
      const where = await conversation.existingBox(box, { signal });
      const snapshot = await where.snapshot.get(name, { signal });
      if (snapshot && !snapshot.hasMemory) await where.stop({ signal });
      await where.snapshot.restore(name, { live: snapshot?.hasMemory !== false, signal });
      return { text: `${where.name ?? where.id} is as it was at ${name}`, data: { name, box: where.id } };
    },
  }),
  tool({
    name: 'fork',
    title: 'Fork a box and try commands',
    description:
      'Makes a copy of the running box for each command, runs them beside each other, and answers with all results, to compare ways that exclude each other. The box itself stays as it is.',
    scope: 'box:write',
    effect: 'change',
    input: {
      commands: z.array(z.string().min(1).max(maxProgramLength)).min(1).max(mcpLimits.forks),
      keep: z.boolean().default(false).describe('Whether the copies stay, to go on in one of them'),
      box,
      cwd,
      timeoutMs,
    },
    async run({ commands, keep, box, cwd, timeoutMs }, call) {
      const { conversation, signal } = call;
      const where = await conversation.box(box, call);
      const children = await where.fork({ count: commands.length, signal });
      const made = children.flatMap((child) => ('box' in child ? [child.box] : []));
      try {
        const branches = await Promise.all(
          commands.map(async (command, index): Promise<Branch> => {
            const child = children[index];
            if (child && 'box' in child) return await branch(child.box, command, { cwd, timeoutMs }, call);
            const error = messageOf(child?.error);
            return { command, text: error, data: { command, error } };
          }),
        );
        const texts = branches.map(({ command, text, data }) =>
          [`$ ${command}`, ...(keep && data['box'] ? [`box ${data['box']}`] : []), text].join('\n'),
        );
        return { text: texts.join('\n\n'), data: { results: branches.map(({ data }) => data), kept: keep } };
      } finally {
        if (!keep || signal.aborted) {
          await Promise.allSettled(made.map((child) => child.remove({ force: true })));
        }
      }
    },
  }),
];
