import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import type { Box, StdinWriter } from '../../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../../errors.js';
import { type Processes, SandboxProcess } from '../processes.js';
import { type Asker, askerOf } from './asker.js';
import { keepAliveMsOf } from './keep-alive.js';
import type { processService, Selector, StartRequest } from './process-messages.js';
import { requireUser, resolvePath } from './users.js';

/** How long the end of a killed process is waited for. */
const killMs = 5000;
const signalNames: Readonly<Record<number, string>> = { 9: 'SIGKILL', 15: 'SIGTERM' };

/** Starts a process in the box. */
async function start(
  asker: Asker,
  request: StartRequest,
  timeoutMs: number | undefined,
): Promise<SandboxProcess> {
  const { box, userName } = asker;
  const { process: config, pty, tag, stdin } = request;
  if (!config || config.cmd === '') throw new CryoboxError('invalid_argument', 'no command was given');
  const user = await requireUser(box.files, userName);
  const cwd = resolvePath(config.cwd ?? '', user);
  const env = { HOME: user.home, USER: user.name, LOGNAME: user.name, ...asker.env, ...config.envs };
  const tty = pty && { cols: pty.size?.cols || 80, rows: pty.size?.rows || 24 };
  const options = { env, cwd, user: userName, timeoutMs, tty, stdin: pty !== undefined || stdin !== false };
  try {
    const execution = await box.startExec([config.cmd, ...config.args], options);
    const pid = (await box.executions.get(execution.id))?.pid ?? 0;
    return new SandboxProcess(execution, { pid, config, tag, tty: pty !== undefined });
  } catch (error) {
    if (isCryoboxError(error, 'cwd_not_found')) {
      throw new CryoboxError('cwd_not_found', `cwd '${cwd}' does not exist`, { cause: error });
    }
    throw error;
  }
}

/** What a process writes to; `failed_precondition` when it has no such input. */
function inputOf({ execution, facts }: SandboxProcess): StdinWriter {
  if (execution.stdin) return execution.stdin;
  throw new CryoboxError('invalid_state', `process ${facts.pid} has no stdin`, {
    hint: 'Start it with stdin.',
  });
}

/** `process.Process` over the executions of boxes. */
export function processImplementation(processes: Processes): ServiceImpl<typeof processService> {
  const find = async (box: Box, selected: Selector | undefined): Promise<SandboxProcess> => {
    const found = await processes.find(box, selected);
    if (!found.isEnded) return found;
    throw new CryoboxError('not_found', `process with pid ${found.facts.pid} has ended`);
  };

  return {
    async *start(request, context) {
      const asker = askerOf(context);
      const limit = context.timeoutMs();
      const started = await start(asker, request, limit === undefined ? undefined : Math.max(1, limit));
      const events = started.events(keepAliveMsOf(context));
      processes.add(asker.box.id, started);
      for await (const event of events) {
        yield { event };
        // The limit of the call is that of the command: its end by that is told as the call's.
        if (event.event.case === 'end' && context.signal.aborted) throw outOfTime();
      }
    },

    async *connect({ process: selected }, context) {
      const found = await processes.find(askerOf(context).box, selected);
      for await (const event of found.events(keepAliveMsOf(context))) yield { event };
    },

    list(_request, context) {
      const all = processes.running(askerOf(context).box.id);
      return {
        processes: all.map(({ facts: { config, pid, tag } }) => ({
          config,
          pid,
          ...(tag === undefined ? {} : { tag }),
        })),
      };
    },

    async update({ process: selected, pty }, context) {
      const { execution } = await find(askerOf(context).box, selected);
      if (pty?.size) await execution.resize(pty.size);
      return {};
    },

    async sendInput({ process: selected, input }, context) {
      const found = await find(askerOf(context).box, selected);
      if (input?.input.value) await inputOf(found).write(input.input.value);
      return {};
    },

    async streamInput(requests, context) {
      let found: SandboxProcess | undefined;
      for await (const { event } of requests) {
        if (event.case === 'start') found = await find(askerOf(context).box, event.value.process);
        const bytes = event.case === 'data' ? event.value.input?.input.value : undefined;
        if (bytes === undefined) continue;
        if (!found) throw new CryoboxError('invalid_argument', 'input came before its process was named');
        await inputOf(found).write(bytes);
      }
      return {};
    },

    async sendSignal({ process: selected, signal }, context) {
      const found = await find(askerOf(context).box, selected);
      const name = signalNames[signal];
      if (name === undefined) throw new CryoboxError('invalid_argument', `signal ${signal} cannot be sent`);
      await found.execution.signal(name);
      if (name === 'SIGKILL') {
        await found.execution.wait({ signal: AbortSignal.timeout(killMs) }).catch(unlessLate);
      }
      return {};
    },

    async closeStdin({ process: selected }, context) {
      await inputOf(await find(askerOf(context).box, selected)).end();
      return {};
    },
  };
}

function outOfTime(): ConnectError {
  return new ConnectError('the command was ended by its time limit', Code.DeadlineExceeded);
}

/** Whoever kills a process is answered when it is gone, or soon. */
function unlessLate(error: unknown): void {
  if (!isCryoboxError(error, 'cancelled')) throw error;
}
