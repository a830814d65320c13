import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as pinned from '@boxlite-ai/boxlite';
import { createServer, type Principal, type Server, scopes } from '../../dist/server/index.js';
import type { NpmClient } from '../support/boxlite-npm-client.js';
import { writeTinyImage } from '../support/tiny-image.js';
import { Stage } from './support.js';

/** The npm client of BoxLite. */
export type Client = ReturnType<NpmClient['JsBoxlite']['rest']>;
/** Its handle of a box. */
export type ClientBox = Awaited<ReturnType<Client['create']>>;

/** What a command gave. */
export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** Everything a stream of the client gives. */
export async function readAll(stream: { next(): Promise<string | null> }): Promise<string> {
  let text = '';
  for (let chunk = await stream.next(); chunk !== null; chunk = await stream.next()) text += chunk;
  return text;
}

/** Runs a command with the client to its end. */
export async function run(box: ClientBox, ...command: Parameters<ClientBox['exec']>): Promise<Ran> {
  const execution = await box.exec(...command);
  const [stdout, stderr] = await Promise.all([
    execution.stdout().then(readAll),
    execution.stderr().then(readAll),
  ]);
  return { stdout, stderr, exitCode: (await execution.wait()).exitCode };
}

const tenants = ['acme/team', 'other'] as const;

/** A server with two tenants, each with the image `tiny`, and clients of them. */
export class ClientStage {
  readonly stage: Stage;
  readonly url: string;
  /** A directory of the host. */
  readonly host: string;
  readonly #server: Server;
  readonly #npm: NpmClient;

  private constructor(stage: Stage, server: Server, url: string, host: string, npm: NpmClient) {
    this.#npm = npm;
    this.stage = stage;
    this.#server = server;
    this.url = url;
    this.host = host;
  }

  /** Its clients are of the npm client that is given, else of the one that this repository depends on. */
  static async open(npm: NpmClient = pinned): Promise<ClientStage> {
    const host = await mkdtemp(join(tmpdir(), 'cryobox-client-'));
    const stage = await Stage.open();
    const principals = tenants.map((tenant): Principal => ({ id: tenant, tenant, scopes, expiresAt: null }));
    const server = createServer({
      runtimeFor: (tenant) => stage.engine.runtime(tenant),
      authenticator: {
        authenticate: async (token) => principals.find(({ id }) => token === `key-of-${id}`) ?? null,
      },
    });
    const opened = new ClientStage(stage, server, (await server.listen({ port: 0 })).url, host, npm);
    for (const tenant of tenants) await opened.#importTiny(tenant);
    return opened;
  }

  /** A client of a tenant. */
  connect(tenant: (typeof tenants)[number], pathPrefix: string = tenant): Client {
    const { ApiKeyCredential, BoxliteRestOptions, JsBoxlite } = this.#npm;
    const credential = new ApiKeyCredential(`key-of-${tenant}`);
    return JsBoxlite.rest(new BoxliteRestOptions({ url: this.url, credential, pathPrefix }));
  }

  /** A client without a key. */
  keyless(): Client {
    const { BoxliteRestOptions, JsBoxlite } = this.#npm;
    return JsBoxlite.rest(new BoxliteRestOptions({ url: this.url }));
  }

  async close(): Promise<void> {
    for (const tenant of tenants) {
      const runtime = this.stage.engine.runtime(tenant);
      for (const each of await runtime.list()) await runtime.remove(each.id, { force: true });
    }
    await this.#server.close();
    await this.stage.close();
    await rm(this.host, { recursive: true, force: true });
  }

  /** Tenants share nothing, so each needs the image. */
  async #importTiny(tenant: string): Promise<void> {
    const directory = join(this.host, `image-${tenant.replace('/', '-')}`);
    await mkdir(directory);
    const layout = await writeTinyImage(directory);
    await this.stage.engine.runtime(tenant).images.import(layout, { reference: 'tiny' });
  }
}
