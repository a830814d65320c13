import type { Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { newHome } from '../../test/support/home.js';
import type { BenchRun } from '../harness.js';
import { ServerProcess } from './server-process.js';

/** The same two homes: one served over TCP by another process, one with its engine in this process. */
export interface BothSides {
  readonly remote: Runtime;
  readonly server: ServerProcess;
  readonly embedded: Runtime;
  /** For files of the case; goes with the run. */
  readonly directory: string;
}

async function removeRunning(runtime: Runtime): Promise<void> {
  for (const { id } of await runtime.list({ status: 'running' })) await runtime.remove(id, { force: true });
}

/** A run over both sides. */
export async function onBothSides(
  make: (sides: BothSides) => Promise<Omit<BenchRun, 'teardown'> & { end?(): Promise<void> }>,
): Promise<BenchRun> {
  const ends: (() => Promise<void>)[] = [];
  const teardown = async (): Promise<void> => {
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    const homes = [await newHome(), await newHome()] as const;
    for (const home of homes) ends.push(async () => home[Symbol.asyncDispose]());
    const server = await ServerProcess.start(homes[0].path);
    ends.push(() => server.end());
    const remote = connectRuntime(server.address);
    ends.push(() => remote.close());
    ends.push(() => removeRunning(remote));
    const engine = await Engine.open({ home: homes[1].path, poolSize: 0 });
    ends.push(() => engine.close());
    const embedded = engine.runtime();
    ends.push(() => removeRunning(embedded));
    const { measure, baseline, end } = await make({ remote, server, embedded, directory: homes[1].path });
    if (end) ends.push(end);
    return { measure, baseline, teardown };
  } catch (error) {
    await teardown();
    throw error;
  }
}
