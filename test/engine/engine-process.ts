import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { builtEntry } from '../support/built.js';

/** An engine in a process of its own. */
export interface EngineProcess {
  readonly pid: number;
  readonly exited: Promise<unknown>;
}

/** Starts a background engine over a home, by the command `through` if any, and waits until it answers. */
export async function startEngine(home: string, through: readonly string[] = []): Promise<EngineProcess> {
  const entry = await builtEntry('cli/main.ts');
  const [command = '', ...before] = [...through, process.execPath];
  const child = spawn(command, [...before, entry, 'engine', 'run'], {
    env: { ...process.env, CRYOBOX_HOME: home, CRYOBOX_READY_FD: '3' },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const channel = child.stdio[3];
  if (!channel || !('on' in channel)) throw new Error('no channel');
  for await (const line of createInterface({ input: channel as NodeJS.ReadableStream })) {
    expect(JSON.parse(line)).toMatchObject({ ready: true });
    break;
  }
  return { pid: child.pid ?? 0, exited: once(child, 'exit') };
}
