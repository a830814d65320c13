import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import versions from '../support/boxlite-versions.json' with { type: 'json' };
import { installMs } from '../support/installed.js';
import { PythonClient } from '../support/python-client.js';
import { ClientStage } from './client-stage.js';

const tenant = 'acme/team';

/** The newest alone, as far as not all are asked for (`npm run test:clients`): others have the short test of python-client. */
const driven = process.env.CRYOBOX_CLIENTS === 'all' ? versions.python : versions.python.slice(-1);

/** What users of the official Python client rely on, as it shows to them. */
describe.each(driven)('what a user of the Python client %s sees', (version) => {
  let stage: ClientStage;
  let client: PythonClient;
  beforeAll(async () => {
    stage = await ClientStage.open();
    const env = { URL: stage.url, KEY: `key-of-${tenant}`, PREFIX: tenant, HOST: stage.host };
    client = await PythonClient.install(version, env);
  }, installMs);
  afterAll(() => stage.close());

  it('lists the newest box first, by the image that was asked for', async () => {
    const seen = await client.run(`
made = [await runtime.create(boxlite.BoxOptions(image="tiny"), name=name) for name in ("old", "new")]
try:
    infos = await runtime.list_info()
    return [[info.name, info.image] for info in infos]
finally:
    for box in made:
        await runtime.remove(box.id, force=True)`);
    expect(seen).toEqual([
      ['new', 'tiny'],
      ['old', 'tiny'],
    ]);
  });

  it('tells signals from exit codes, and names the command that is not there', async () => {
    const seen = await client.run(`
box = await runtime.create(boxlite.BoxOptions(image="tiny"))
try:
    codes = []
    for script in ("exit 7", "kill -10 $$", "kill -9 $$"):
        codes.append((await (await box.exec("sh", ["-c", script])).wait()).exit_code)
    try:
        await box.exec("no-such-command")
        error = "none"
    except Exception as failure:
        error = str(failure)
    return codes, error
finally:
    await runtime.remove(box.id, force=True)`);
    expect(seen).toEqual([[7, -10, -9], expect.stringMatching(/command not found: "no-such-command"/)]);
  });

  it('gets a directory with its name, and what is in it without', async () => {
    const out = join(stage.host, 'named');
    await rm(out, { recursive: true, force: true });
    await mkdir(join(out, 'whole'), { recursive: true });
    await mkdir(join(out, 'inside'));
    await client.run(`
box = await runtime.create(boxlite.BoxOptions(image="tiny"))
try:
    script = "mkdir -p /root/d/e; echo one > /root/d/e/f; ln -s d /root/l"
    await (await box.exec("sh", ["-c", script])).wait()
    out = os.environ["HOST"] + "/named"
    await box.copy_out("/root/d", out + "/whole")
    await box.copy_out("/root/d/.", out + "/inside")
finally:
    await runtime.remove(box.id, force=True)`);
    expect(await readdir(join(out, 'whole'))).toEqual(['d']);
    expect(await readdir(join(out, 'inside'))).toEqual(['e']);
    expect(await readFile(join(out, 'whole', 'd', 'e', 'f'), 'utf8')).toBe('one\n');
  });

  it('has no network card where the network is disabled', async () => {
    const seen = await client.run(`
async def look(mode):
    box = await runtime.create(boxlite.BoxOptions(image="tiny", network=boxlite.NetworkSpec(mode=mode)))
    try:
        run = await box.exec("ls", ["/sys/class/net"])
        names = "".join([part async for part in run.stdout()]).split()
        await run.wait()
        return sorted(names)
    finally:
        await runtime.remove(box.id, force=True)
return await look("disabled"), await look("enabled")`);
    expect(seen).toEqual([['lo'], ['eth0', 'lo']]);
  });

  it('does not start a stopped box by asking for one of its ports', async () => {
    const seen = await client.run(`
box = await runtime.create(boxlite.BoxOptions(image="tiny"))
try:
    await box.stop()
    try:
        await (await box.network.tunnel(80)).connect()
        error = "none"
    except Exception as failure:
        error = str(failure)
    return error, (await runtime.get_info(box.id)).state.status
finally:
    await runtime.remove(box.id, force=True)`);
    expect(seen).toEqual([expect.stringMatching(/^stopped: .*does not bring it up/), 'stopped']);
  });

  it('has a main command that runs at every start, and attaches to it', async () => {
    const seen = await client.run(`
script = "echo ran >> /root/runs; read line; echo got $line; exit 5"
async def runs_until(count):
    wait = f"until [ $(grep -c ran /root/runs) -ge {count} ]; do sleep 0.05; done; cat /root/runs"
    run = await box.exec("sh", ["-c", wait])
    text = "".join([part async for part in run.stdout()])
    await run.wait()
    return text
box = await runtime.create(boxlite.BoxOptions(image="tiny", entrypoint=["sh", "-c"], cmd=[script]))
try:
    await runs_until(1)
    await box.stop()
    await box.start()
    runs = await runs_until(2)
    main = await box.attach()
    await main.stdin().send_input(b"it\\n")
    output = "".join([part async for part in main.stdout()])
    return main.id(), runs, output, (await main.wait()).exit_code
finally:
    await runtime.remove(box.id, force=True)`);
    expect(seen).toEqual(['main', 'ran\nran\n', 'got it\n', 5]);
  });

  it('reads images by name, names them once more, and removes them by name', async () => {
    const seen = await client.run(`
if not hasattr(getattr(boxlite, "ImageHandle", None), "usage"):
    return "older"
images = runtime.images
before = await images.usage()
detail = await images.get("tiny")
digest = detail.versions[0].digest
await images.create_alias("tiny", "again", digest)
named = await images.get("docker.io/library/tiny")
errors = []
for failing in (images.create_alias("tiny", "again", digest), images.get("absent"),
                images.remove("absent"), images.registries.list()):
    try:
        await failing
        errors.append("none")
    except Exception as failure:
        errors.append(type(failure).__name__)
await images.delete_alias("tiny", "again")
after = await images.get("tiny")
return [before.count, before.limit, detail.name, sorted(named.aliases), len(named.versions), errors, after.aliases]`);
    if (seen === 'older') return;
    expect(seen).toEqual([
      1,
      Number.MAX_SAFE_INTEGER,
      'docker.io/library/tiny',
      ['again', 'latest'],
      1,
      ['AlreadyExistsError', 'NotFoundError', 'NotFoundError', 'UnsupportedError'],
      ['latest'],
    ]);
  });
});
