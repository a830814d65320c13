import { type Agent, fetch } from 'undici';
import { CryoboxError, isCryoboxError, messageOf } from '../../src/errors.js';
import { errorFromBody } from '../../src/wire/error.js';
import type { JsonObject } from '../../src/wire/json.js';
import type { Random } from '../control/random.js';
import { boxNames } from './sdk-operations.js';

/** A client that speaks HTTP by itself, without the package. */
export interface RestClient {
  /** Such as `http://127.0.0.1:8100/v1`. */
  readonly base: string;
  readonly random: Random;
  /** Its connections, which it keeps until it is closed. */
  readonly agent: Agent;
}

interface Asked {
  readonly method?: string;
  readonly json?: unknown;
  readonly bytes?: Uint8Array;
}

/** Sends one request and reads the whole answer; anything but 2xx is thrown as the error that it stands for. */
async function ask(
  { base, agent }: RestClient,
  path: string,
  { method = 'GET', json, bytes }: Asked = {},
): Promise<Buffer> {
  let status: number;
  let body: Buffer;
  try {
    const answer = await fetch(`${base}${path}`, {
      method,
      dispatcher: agent,
      ...(json === undefined
        ? {}
        : { body: JSON.stringify(json), headers: { 'content-type': 'application/json' } }),
      ...(bytes === undefined
        ? {}
        : { body: new Uint8Array(bytes), headers: { 'content-type': 'application/octet-stream' } }),
    });
    status = answer.status;
    body = Buffer.from(await answer.arrayBuffer());
  } catch (error) {
    throw new CryoboxError('network_unavailable', `${path}: ${messageOf(error)}`, { cause: error });
  }
  if (status >= 200 && status < 300) return body;
  throw errorFromBody(body.toString(), status);
}

const post = (client: RestClient, path: string, json: unknown = {}): Promise<Buffer> =>
  ask(client, path, { method: 'POST', json });

type Run = (client: RestClient) => Promise<unknown>;

const onBox =
  (task: (client: RestClient, path: string) => Promise<unknown>): Run =>
  (client) =>
    task(client, `/boxes/${client.random.pick(boxNames)}`);

const toBox = (action: string, json: unknown = {}): Run =>
  onBox((client, path) => post(client, `${path}/${action}`, json));

/** Every page of the list of boxes; from the first again where the box that a page begins after was removed meanwhile. */
async function pages(client: RestClient): Promise<void> {
  for (let token = ''; ; ) {
    const query = token === '' ? '' : `&pageToken=${token}`;
    const answer = await ask(client, `/boxes?pageSize=1${query}`).catch((error: unknown) => {
      if (token === '' || !isCryoboxError(error, 'invalid_argument')) throw error;
      return undefined;
    });
    if (!answer) {
      token = '';
      continue;
    }
    const page = JSON.parse(answer.toString()) as JsonObject;
    if (typeof page['next_page_token'] !== 'string') return;
    token = page['next_page_token'];
  }
}

/** Operations over plain HTTP that keep what others count on. */
export const restOperations: Readonly<Record<string, readonly [weight: number, run: Run]>> = {
  create: [3, (client) => post(client, '/boxes', { name: client.random.pick(boxNames), image: 'tiny' })],
  start: [2, toBox('start')],
  stop: [2, toBox('stop', { timeout_seconds: 3 })],
  pause: [2, toBox('pause')],
  exec: [
    5,
    onBox(async (client, path) => {
      const answer = await post(client, `${path}/exec`, { command: 'true' });
      const { execution_id: id } = JSON.parse(answer.toString()) as JsonObject;
      await ask(client, `${path}/executions/${String(id)}`);
    }),
  ],
  executions: [1, onBox((client, path) => ask(client, `${path}/executions`))],
  'files.write': [
    2,
    onBox((client, path) =>
      ask(client, `${path}/files/content?path=/root/rest`, { method: 'PUT', bytes: Buffer.from('rest') }),
    ),
  ],
  'files.read': [2, onBox((client, path) => ask(client, `${path}/files/content?path=/etc/hostname`))],
  'files.list': [1, onBox((client, path) => ask(client, `${path}/files/list?path=/root`))],
  'files.pack': [1, onBox((client, path) => ask(client, `${path}/files?path=/root`))],
  info: [2, onBox((client, path) => ask(client, path))],
  pages: [2, pages],
  console: [1, onBox((client, path) => ask(client, `${path}/console`))],
  metrics: [1, onBox((client, path) => ask(client, `${path}/metrics`))],
  'snapshot.create': [1, onBox((client, path) => post(client, `${path}/snapshots`, { name: 'rest' }))],
  'snapshot.remove': [
    1,
    onBox((client, path) => ask(client, `${path}/snapshots/rest`, { method: 'DELETE' })),
  ],
  'snapshot.list': [1, onBox((client, path) => ask(client, `${path}/snapshots`))],
  fork: [
    1,
    onBox((client, path) =>
      post(client, `${path}/fork`, { count: 1, names: [client.random.pick(boxNames)] }),
    ),
  ],
  clone: [1, onBox((client, path) => post(client, `${path}/clone`, { name: client.random.pick(boxNames) }))],
  export: [1, toBox('export')],
  'volume.list': [1, (client) => ask(client, '/volumes')],
  'template.list': [1, (client) => ask(client, '/snapshots')],
  images: [1, (client) => ask(client, '/images')],
};
