import { rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { ApiKeys } from '../../src/home/keys.js';
import { serveHttp } from '../../src/home/serve-http.js';
import { connectRuntime } from '../../src/remote/index.js';
import { freePort } from '../image/support/registry.js';
import { newHome } from '../support/home.js';

/** All that an error says, its causes included. */
function textOf(error: { message: string; hint?: string; details?: unknown }): string {
  return JSON.stringify([error.message, error.hint, error.details]);
}

async function refusal(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => expect.unreachable('nothing was refused'),
    (error) => textOf(error),
  );
}

/** What fails when the home has lost its layers; each names a file. */
async function refusals(runtime: Runtime, id: string): Promise<string[]> {
  const box = await runtime.get(id);
  return [
    await refusal(box?.start() ?? Promise.resolve()),
    await refusal(box?.clone('other') ?? Promise.resolve()),
    await refusal(runtime.create({ image: 'tiny' })),
    await refusal(runtime.import(new Uint8Array(100))),
  ];
}

it('errors tell callers from elsewhere no place of the home, and users of the host do see it', async () => {
  await using home = await newHome();
  let key: string;
  {
    await using keys = await ApiKeys.open(home.path);
    ({ key } = await keys.create({ tenant: '' }));
  }
  await using served = await serveHttp({ home: home.path, poolSize: 0, listen: { port: await freePort() } });
  const far = connectRuntime({ url: served.address.url, apiKey: key });
  const near = connectRuntime({ socketPath: join(home.path, 'engine.sock') });
  try {
    const box = await far.create({ image: 'tiny', detach: true });
    const { id } = box;
    await box.stop();
    await rename(join(home.path, 'layers'), join(home.path, 'away'));
    const [told, seen] = [await refusals(far, id), await refusals(near, id)];
    await rename(join(home.path, 'away'), join(home.path, 'layers'));
    expect(seen.filter((text) => text.includes(home.path))).not.toEqual([]);
    for (const text of told) {
      expect(text).not.toContain(home.path);
      expect(text).not.toContain(tmpdir());
    }
    await (await far.get(id))?.remove({ force: true });
  } finally {
    await Promise.all([far.close(), near.close()]);
  }
});
