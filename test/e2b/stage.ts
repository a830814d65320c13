import { randomBytes } from 'node:crypto';
import { Engine } from '../../dist/engine/index.js';
import { createServer, type Principal, type Server, scopes } from '../../dist/server/index.js';
import { newHome, type TestHome } from '../support/home.js';

const owner: Principal = { id: 'owner', tenant: '', scopes, expiresAt: null };
const other: Principal = { id: 'other', tenant: 'acme', scopes, expiresAt: null };

/** Keys that the server takes. */
export const keys = { owner: `e2b_${'a1'.repeat(20)}`, other: `e2b_${'b2'.repeat(20)}` } as const;

/** An engine with a server that speaks E2B's API, and asks for keys. */
export class E2bStage {
  readonly engine: Engine;
  readonly url: string;
  readonly #server: Server;
  readonly #home: TestHome;

  private constructor(engine: Engine, server: Server, url: string, home: TestHome) {
    this.engine = engine;
    this.url = url;
    this.#server = server;
    this.#home = home;
  }

  static async open(): Promise<E2bStage> {
    const home = await newHome();
    const engine = await Engine.open({ home: home.path, poolSize: 0 });
    const server = createServer({
      runtimeFor: (tenant, access) => engine.runtime(tenant, access),
      authenticator: {
        authenticate: async (token) => (token === keys.owner ? owner : token === keys.other ? other : null),
      },
      e2b: {
        seed: randomBytes(32),
        tenantOf: (boxId) => engine.tenantOf(boxId),
        runningBoxes: () => engine.runningBoxes(),
        standIns: async () => ({ base: 'debian-python' }),
      },
    });
    const { url } = await server.listen({ port: 0 });
    return new E2bStage(engine, server, url, home);
  }

  /** The environment in which clients find this server. */
  env(key: string = keys.owner): Record<string, string> {
    return { E2B_API_KEY: key, E2B_API_URL: this.url, E2B_SANDBOX_URL: this.url, E2B_DOMAIN: 'e2b.local' };
  }

  async close(): Promise<void> {
    const runtime = this.engine.runtime();
    for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
    await this.#server.close();
    await this.engine.close();
    await this.#home[Symbol.asyncDispose]();
  }
}
