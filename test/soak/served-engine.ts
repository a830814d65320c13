import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('engine.mjs', import.meta.url));
/** What is kept of what an engine says when it ends by itself. */
const keptChars = 4000;

/** An engine in a process of its own, which is started again each time that it is killed. */
export class KilledEngine {
  /** Ends that nobody caused. */
  readonly deaths: string[] = [];
  readonly url: string;
  readonly #home: string;
  readonly #port: number;
  #child: ChildProcess | undefined;
  #words = '';

  private constructor(home: string, port: number) {
    this.#home = home;
    this.#port = port;
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(home: string): Promise<KilledEngine> {
    const engine = new KilledEngine(home, await freePort());
    await engine.#start();
    return engine;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Kills it, and starts the next one. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
    await this.#start();
  }

  /** Ends it in order. */
  async close(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  async #start(): Promise<void> {
    const child = spawn(process.execPath, [program, JSON.stringify({ home: this.#home, port: this.#port })], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#words = '';
    child.stderr.on('data', (chunk: Buffer) => {
      this.#words = (this.#words + chunk.toString()).slice(-keptChars);
    });
    this.#child = child;
    child.once('exit', (code, signal) => {
      if (this.#child === child) this.deaths.push(`the engine ended with ${code ?? signal}: ${this.#words}`);
    });
    for await (const _ of createInterface({ input: child.stdout })) return;
    throw new Error(`the engine did not come up: ${this.#words}`);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
