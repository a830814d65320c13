import type { Box, CallOptions, Execution, ProgressOptions } from '../api/index.js';
import { BoundedOutput, collectBounded } from '../base/bounded-output.js';
import { CryoboxError } from '../errors.js';
import { type McpSettings, mcpLimits } from './options.js';
import { PublishedPorts } from './ports.js';

/** A command in the background, and what it wrote so far. */
export interface BackgroundCommand {
  readonly box: Box;
  readonly execution: Execution;
  readonly stdout: BoundedOutput;
  readonly stderr: BoundedOutput;
  /** Settles when its output has ended; never rejects. */
  readonly ended: Promise<void>;
}

/** What one client works with: its box, its commands in the background, its ports. */
export class Conversation {
  readonly settings: McpSettings;
  readonly ports: PublishedPorts;
  readonly #commands = new Map<string, BackgroundCommand>();
  #box: Box | undefined;
  #making: Promise<Box> | undefined;

  constructor(settings: McpSettings) {
    this.settings = settings;
    this.ports = new PublishedPorts(settings.logger);
  }

  /** The box that a call is about: the one it names, else that of the conversation, which is made when there is none. */
  async box(name: string | undefined, options: ProgressOptions): Promise<Box> {
    if (name !== undefined) return await this.#existing(name, options);
    if (this.#box && (await this.#find(this.#box.id, options))) return this.#box;
    this.#making ??= this.#first(options).finally(() => {
      this.#making = undefined;
    });
    return await this.#making;
  }

  /** As {@link Conversation.box}, and makes none: what only reads has nothing to read in a new box. */
  async existingBox(name: string | undefined, options: CallOptions): Promise<Box> {
    const known = name ?? this.#box?.id ?? this.settings.box;
    if (known !== undefined) return await this.#existing(known, options);
    throw new CryoboxError('not_found', 'This conversation has no box yet', {
      hint: 'Name a box that list_boxes shows, or make one with create_box.',
    });
  }

  /** Makes a box, which is that of the conversation from now on. */
  async create(
    options: ProgressOptions & {
      readonly image?: string | undefined;
      readonly name?: string | undefined;
      readonly memoryMiB?: number | undefined;
      readonly cpus?: number | undefined;
    },
  ): Promise<Box> {
    const { settings } = this;
    const {
      image = settings.image,
      name,
      memoryMiB = settings.memoryMiB,
      cpus,
      signal,
      onProgress,
    } = options;
    const { lifetimeSeconds } = settings;
    const runtime = await settings.runtime();
    this.#box = await runtime.create({
      signal,
      onProgress,
      image,
      ...(name === undefined ? {} : { name }),
      ...(memoryMiB === undefined ? {} : { memoryMiB }),
      ...(cpus === undefined ? {} : { cpus }),
      network: { outbound: settings.network },
      labels: { 'cryobox.mcp': 'true' },
      // It takes no memory of the host while the model thinks, and goes on where it was.
      autoStop: mcpLimits.pauseSeconds,
      autoStopAction: 'pause',
      autoDelete: lifetimeSeconds,
      detach: true,
    });
    return this.#box;
  }

  /** Forgets a box that was removed. */
  forget(box: Box): void {
    if (this.#box?.id === box.id) this.#box = undefined;
    for (const [id, command] of this.#commands) if (command.box.id === box.id) this.#commands.delete(id);
    this.ports.close(box.id);
  }

  /** Keeps the output of a command in the background; of those that have ended, the oldest gives way. */
  keep(box: Box, execution: Execution): BackgroundCommand {
    const stdout = new BoundedOutput(mcpLimits.outputBytes);
    const stderr = new BoundedOutput(mcpLimits.outputBytes);
    const both = [collectBounded(execution.stdout, stdout), collectBounded(execution.stderr, stderr)];
    const ended = Promise.allSettled(both).then(() => undefined);
    const command = { box, execution, stdout, stderr, ended };
    this.#commands.set(execution.id, command);
    return command;
  }

  /** Throws `resource_exhausted` when no more commands in the background can be kept; forgets one that has ended for that. */
  async makeRoom(options: CallOptions): Promise<void> {
    for (const [id, { box }] of this.#commands) {
      if (this.#commands.size < mcpLimits.backgroundCommands) return;
      const info = await box.executions.get(id, options).catch(() => null);
      if (info?.status !== 'running') this.#commands.delete(id);
    }
    if (this.#commands.size < mcpLimits.backgroundCommands) return;
    throw new CryoboxError(
      'resource_exhausted',
      `${this.#commands.size} commands of this conversation run in the background already`,
      { hint: 'End one with stop_command.', details: { limit: mcpLimits.backgroundCommands } },
    );
  }

  command(id: string): BackgroundCommand {
    const command = this.#commands.get(id);
    if (command) return command;
    throw new CryoboxError('not_found', `This conversation started no command "${id}"`, {
      hint: 'start_command tells the id of what it started.',
      details: { execution: id },
    });
  }

  /** Lets go of streams and ports. Boxes and commands stay: whoever comes back names the box. */
  async close(): Promise<void> {
    this.ports.closeAll();
    const held = [...this.#commands.values()];
    this.#commands.clear();
    await Promise.allSettled(held.map(({ execution }) => execution.detach()));
  }

  async #find(name: string, { signal }: CallOptions): Promise<Box | null> {
    return await (await this.settings.runtime()).get(name, { signal });
  }

  async #existing(name: string, options: CallOptions): Promise<Box> {
    const box = await this.#find(name, options);
    if (box) return box;
    throw new CryoboxError('not_found', `There is no box "${name}"`, {
      hint: 'list_boxes shows those there are.',
      details: { box: name },
    });
  }

  async #first(options: ProgressOptions): Promise<Box> {
    const { settings } = this;
    const found = settings.box && (await this.#find(settings.box, options));
    if (!found)
      return await this.create({
        signal: options.signal,
        onProgress: options.onProgress,
        name: settings.box,
      });
    this.#box = found;
    return found;
  }
}
