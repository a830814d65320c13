import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { Engine } from '../../dist/engine/index.js';
import { connectRuntime } from '../../dist/remote/index.js';
import { createServer, type Principal, type Server, scopes } from '../../dist/server/index.js';
import type { Box, Runtime } from '../../src/api/index.js';
import { newHome, type TestHome } from '../support/home.js';

/** Who may do everything over TCP, with the key `owner`. */
const owner: Principal = { id: 'owner', tenant: '', scopes, expiresAt: null };

/** An engine with a server on a unix socket and two on TCP, one of which asks for a key; the same boxes behind all. */
export class Stage {
  readonly engine: Engine;
  readonly home: TestHome;
  readonly socketPath: string;
  readonly url: string;
  /** Of the server that asks for a key: `owner`. */
  readonly keyedUrl: string;
  readonly #servers: readonly Server[];

  private constructor(
    engine: Engine,
    home: TestHome,
    servers: readonly Server[],
    { url, keyedUrl }: { readonly url: string; readonly keyedUrl: string },
  ) {
    this.engine = engine;
    this.home = home;
    this.#servers = servers;
    this.socketPath = join(home.path, 'test.sock');
    this.url = url;
    this.keyedUrl = keyedUrl;
  }

  /** Makes a home of its own and serves it. */
  static async open(): Promise<Stage> {
    const home = await newHome();
    const engine = await Engine.open({ home: home.path, poolSize: 0 });
    const options = { runtimeFor: engine.runtime.bind(engine), authenticator: null };
    const authenticator = { authenticate: async (token: string) => (token === 'owner' ? owner : null) };
    const local = createServer(options);
    const open = createServer(options);
    const keyed = createServer({ ...options, authenticator });
    await local.listen({ socketPath: join(home.path, 'test.sock') });
    const urls = {
      url: (await open.listen({ port: 0 })).url,
      keyedUrl: (await keyed.listen({ port: 0 })).url,
    };
    return new Stage(engine, home, [local, open, keyed], urls);
  }

  /** Removes every box and what belongs to them. */
  async close(): Promise<void> {
    const runtime = this.engine.runtime();
    for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
    for (const server of this.#servers) await server.close();
    await this.engine.close();
    await this.home[Symbol.asyncDispose]();
  }
}

/** What `task` gives once it does not fail, for what no event tells. */
export async function eventually<T>(task: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await task();
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** The ways to a runtime that must not differ. */
const ways = {
  embedded: (stage: Stage): Runtime => stage.engine.runtime(),
  'engine socket': (stage: Stage): Runtime => connectRuntime({ socketPath: stage.socketPath }),
  TCP: (stage: Stage): Runtime => connectRuntime({ url: stage.keyedUrl, apiKey: 'owner' }),
};

const everyWay = Object.keys(ways) as (keyof typeof ways)[];

/** How often each suite is run: `npm run test:conformance` does it three times over. */
const rounds = Number(process.env.CRYOBOX_ROUNDS || 1);

/** What a suite works with; filled before its tests run. */
export interface Subject {
  readonly runtime: Runtime;
  /** A box of its own that runs. */
  readonly box: Box;
  readonly stage: Stage;
}

type Suite = (subject: Subject) => void;

/** Runs one suite over the embedded runtime, the engine's socket and TCP, or over those that are named. */
export function conformance(name: string, ...rest: [Suite] | [(keyof typeof ways)[], Suite]): void {
  const [chosen, suite] = rest.length === 2 ? rest : [everyWay, rest[0]];
  describe(name, () => {
    let stage: Stage | undefined;
    beforeAll(async () => {
      stage = await Stage.open();
    });
    afterAll(async () => stage?.close());

    const turns = Array.from({ length: rounds }, () => chosen.map((way) => [way, ways[way]] as const)).flat();
    describe.each(turns)('over %s', (_way, open) => {
      const subject: { runtime?: Runtime; box?: Box; stage?: Stage } = {};
      beforeAll(async () => {
        if (!stage) throw new Error('the stage is not open');
        subject.stage = stage;
        subject.runtime = open(stage);
        subject.box = await subject.runtime.create({ image: 'tiny', detach: true });
      });
      afterAll(async () => {
        await subject.box?.remove({ force: true });
        await subject.runtime?.close();
      });
      suite(subject as Subject);
    });
  });
}
