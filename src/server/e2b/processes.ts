import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { Box, ByteSource, Execution } from '../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { endOf } from './envd/process-end.js';
import type { ProcessConfig, ProcessEnd, ProcessEvent, Selector } from './envd/process-messages.js';

/** How long the end of a process is told to who connects late. */
const keptEndedMs = 30_000;
/** Events that wait for a reader before its process waits too: each is one piece of output. */
const readerEvents = 16;

/** What is known of a process from its start. */
export interface ProcessFacts {
  readonly pid: number;
  readonly config: ProcessConfig;
  readonly tag: string | undefined;
  readonly tty: boolean;
}

/** A process of a sandbox, with any number of readers; each gets what comes from its beginning on. */
export class SandboxProcess {
  readonly facts: ProcessFacts;
  readonly execution: Execution;
  readonly #readers = new Set<PassThrough>();
  #end: ProcessEnd | undefined;
  /** Settles when it has ended and all its output was given. */
  readonly ended: Promise<void>;

  constructor(execution: Execution, facts: ProcessFacts) {
    this.execution = execution;
    this.facts = facts;
    this.ended = this.#run();
    this.ended.catch(() => undefined);
  }

  get isEnded(): boolean {
    return this.#end !== undefined;
  }

  /** What happens from now on; the end last. Who stops reading leaves the process alone. */
  events(keepAliveMs: number): AsyncGenerator<ProcessEvent> {
    const reader = new PassThrough({ objectMode: true, highWaterMark: readerEvents });
    reader.on('error', () => undefined);
    reader.write({ event: { case: 'start', value: { pid: this.facts.pid } } } satisfies ProcessEvent);
    if (this.#end) reader.end({ event: { case: 'end', value: this.#end } } satisfies ProcessEvent);
    else this.#readers.add(reader);
    const alive = setInterval(() => {
      if (reader.writableLength === 0 && !reader.writableEnded) {
        reader.write({ event: { case: 'keepalive', value: {} } } satisfies ProcessEvent);
      }
    }, keepAliveMs).unref();
    return this.#read(reader, alive);
  }

  async *#read(reader: PassThrough, alive: NodeJS.Timeout): AsyncGenerator<ProcessEvent> {
    try {
      for await (const event of reader) yield event as ProcessEvent;
    } finally {
      clearInterval(alive);
      this.#readers.delete(reader);
      reader.destroy();
    }
  }

  async #run(): Promise<void> {
    // Whoever starts a process reads it from its first byte: readers are added before this goes on.
    await Promise.resolve();
    const { stdout, stderr } = this.execution;
    try {
      await Promise.all([
        this.#pass(stdout, this.facts.tty ? 'pty' : 'stdout'),
        this.#pass(stderr, 'stderr'),
      ]);
      this.#end = endOf(await this.execution.wait());
    } catch (error) {
      for (const reader of this.#readers) reader.destroy(error as Error);
      throw error;
    }
    for (const reader of this.#readers) {
      reader.end({ event: { case: 'end', value: this.#end } } satisfies ProcessEvent);
    }
  }

  async #pass(output: ByteSource, kind: 'stdout' | 'stderr' | 'pty'): Promise<void> {
    for await (const value of output) {
      const event: ProcessEvent = { event: { case: 'data', value: { output: { case: kind, value } } } };
      await Promise.all([...this.#readers].map((reader) => give(reader, event)));
    }
  }
}

/** Gives a reader an event, when it has room for it. */
async function give(reader: PassThrough, event: ProcessEvent): Promise<void> {
  if (reader.destroyed || reader.write(event)) return;
  const over = new AbortController();
  const { signal } = over;
  await Promise.race([once(reader, 'drain', { signal }), once(reader, 'close', { signal })]).catch(
    () => undefined,
  );
  over.abort();
}

/** The processes of all sandboxes. */
export class Processes {
  readonly #byBox = new Map<string, Map<number, SandboxProcess>>();

  /** Takes in a process that was just started, or found. */
  add(boxId: string, process: SandboxProcess): void {
    const all = this.#byBox.get(boxId) ?? new Map<number, SandboxProcess>();
    this.#byBox.set(boxId, all.set(process.facts.pid, process));
    const forget = (): void => {
      if (all.get(process.facts.pid) === process) all.delete(process.facts.pid);
      if (all.size === 0 && this.#byBox.get(boxId) === all) this.#byBox.delete(boxId);
    };
    process.ended.then(() => setTimeout(forget, keptEndedMs).unref(), forget);
  }

  /** Those of a box that run. */
  running(boxId: string): SandboxProcess[] {
    return [...(this.#byBox.get(boxId)?.values() ?? [])].filter((process) => !process.isEnded);
  }

  /** The process a selector names, also one that a server before this one started. Throws `not_found`. */
  async find(box: Box, selected: Selector | undefined): Promise<SandboxProcess> {
    const { selector } = selected ?? { selector: { case: undefined } };
    const all = [...(this.#byBox.get(box.id)?.values() ?? [])];
    if (selector.case === 'tag') {
      const named = all.findLast(({ facts }) => facts.tag === selector.value);
      if (named) return named;
      throw new CryoboxError('not_found', `process with tag ${selector.value} not found`);
    }
    if (selector.case === undefined) throw new CryoboxError('invalid_argument', 'no process was selected');
    const known = this.#byBox.get(box.id)?.get(selector.value) ?? (await this.#attach(box, selector.value));
    if (known) return known;
    throw new CryoboxError('not_found', `process with pid ${selector.value} not found`);
  }

  /** One that runs, and that this server has not started. */
  async #attach(box: Box, pid: number): Promise<SandboxProcess | undefined> {
    const info = (await box.executions.list()).find((each) => each.pid === pid && each.status === 'running');
    if (!info || info.attached) return undefined;
    try {
      const execution = await box.executions.attach(info.id, { stdin: true });
      const [cmd = '', ...args] = info.command;
      const config = { cmd, args, envs: {} };
      const found = new SandboxProcess(execution, { pid, config, tag: undefined, tty: info.tty });
      this.add(box.id, found);
      return found;
    } catch (error) {
      if (isCryoboxError(error, 'not_found') || isCryoboxError(error, 'conflict')) return undefined;
      throw error;
    }
  }
}
