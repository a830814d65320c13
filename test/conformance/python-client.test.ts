import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import versions from '../support/boxlite-versions.json' with { type: 'json' };
import { installMs } from '../support/installed.js';
import { PythonClient } from '../support/python-client.js';
import { ClientStage } from './client-stage.js';

const [oldest, middle] = versions.python;
/**
 * The oldest sends a tree without its name, all later ones with it; those in the middle also one that is named with a dot.
 */
const pythons = versions.python.map((version) => ({
  version,
  named: version === oldest ? '' : 'tree/',
  dotted: version === middle ? 'single/' : '',
}));

describe('the official client for Python', () => {
  let stage: ClientStage;
  let host: string;
  beforeAll(async () => {
    stage = await ClientStage.open();
    host = stage.host;
    await mkdir(join(host, 'tree', 'sub'), { recursive: true });
    await writeFile(join(host, 'one.txt'), 'content');
    await writeFile(join(host, 'tree', 'sub', 'b.bin'), Buffer.alloc(300_000, 7));
    await mkdir(join(host, 'single'));
    await writeFile(join(host, 'single', 'only.txt'), 'only');
  });
  afterAll(() => stage.close());

  describe.each(pythons)('$version', ({ version, named, dotted }) => {
    let client: PythonClient;
    beforeAll(async () => {
      const tenant = 'acme/team';
      const env = { URL: stage.url, KEY: `key-of-${tenant}`, PREFIX: tenant, HOST: host, NAMED: named };
      client = await PythonClient.install(version, env);
    }, installMs);

    it('copies files and trees in and out', async () => {
      const out = join(host, 'out');
      await rm(out, { recursive: true, force: true });
      await mkdir(out);
      const listing = await client.run(
        `
host = os.environ["HOST"]
box = await runtime.create(boxlite.BoxOptions(image="tiny"), name="python")
try:
    await box.copy_in(host + "/one.txt", "/root/renamed.txt")
    await box.copy_in(host + "/one.txt", "/root/into/")
    await box.copy_in(host + "/one.txt", "/root")
    await box.copy_in(host + "/tree", "/root/tree")
    await box.copy_in(host + "/single/.", "/root/single")
    run = await box.exec("sh", ["-c", "cd /root; find . -type f | sort; cat renamed.txt"])
    listing = "".join([line async for line in run.stdout()])
    await run.wait()
    await box.copy_out("/root/renamed.txt", host + "/out/file.txt")
    await box.copy_out(f"/root/tree/{os.environ['NAMED']}.", host + "/out/tree")
finally:
    await runtime.remove(box.id, force=True)
return listing`,
      );
      expect(String(listing).split('\n')).toEqual([
        './into/one.txt',
        './one.txt',
        './renamed.txt',
        `./single/${dotted}only.txt`,
        `./tree/${named}sub/b.bin`,
        'content',
      ]);
      expect(await readFile(join(out, 'file.txt'), 'utf8')).toBe('content');
      expect(await readdir(join(out, 'tree'))).toEqual(['sub']);
      expect((await readFile(join(out, 'tree', 'sub', 'b.bin'))).equals(Buffer.alloc(300_000, 7))).toBe(true);
    });
  });
});
