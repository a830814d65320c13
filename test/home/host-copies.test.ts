import { mkdir, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { spawnProgram } from '../support/program.js';
import { temporaryDirectory } from '../support/temporary.js';

// A machine starts for each: where the processors are busy, that takes its time.
vi.setConfig({ testTimeout: 180_000 });

let home: TestHome;
let host: string;
beforeEach(async () => {
  home = await newHome();
  host = await temporaryDirectory();
});
afterEach(async () => {
  await runCli(home.path, 'rm', '-f', 'b');
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

const engines = ['background', 'in-process'];

it.each(engines)('transfers that are aborted end, and the program goes on: engine %s', async (engine) => {
  await mkdir(join(host, 'tree'));
  for (const name of ['a', 'b', 'c'])
    await writeFile(join(host, 'tree', name), Buffer.alloc(8_000_000, name));
  const program = await spawnProgram(
    home.path,
    `
    import { setFlagsFromString } from 'node:v8';
    import { runInNewContext } from 'node:vm';
    setFlagsFromString('--expose-gc');
    const host = ${JSON.stringify(host)};
    const runtime = await Cryobox.local({ engine: '${engine}', poolSize: 0 });
    const box = await runtime.create({ image: 'debian-python', name: 'b' });
    const { files } = box;
    await files.copyIn(host + '/tree', '/srv/tree');
    const codes = new Set();
    const aborting = async (call) => {
      const controller = new AbortController();
      try {
        await call(controller.signal, () => controller.abort());
        codes.add('none');
      } catch (error) {
        codes.add(error.code ?? String(error));
      }
    };
    async function* endless(then) {
      for (let count = 0; ; count += 1) {
        if (count === 20) then();
        yield Buffer.alloc(50_000);
      }
    }
    async function* until(source, then) {
      for await (const chunk of source) {
        yield chunk;
        then();
      }
    }
    const readAll = async (source, then) => {
      for await (const chunk of source) then(chunk);
    };
    for (let round = 0; round < 3; round += 1) {
      const nobody = new AbortController();
      await aborting((signal, abort) => files.copyIn(host + '/tree', '/root/in', { signal, onProgress: abort }));
      await aborting((signal, abort) => files.copyIn(host + '/tree/a', '/root/a', { signal, onProgress: abort }));
      await aborting((signal, abort) => files.copyOut('/srv/tree', host + '/out' + round, { signal, onProgress: abort }));
      await aborting((signal, abort) => files.write('/root/f', endless(abort), { signal }));
      await aborting(async (signal, abort) => readAll(await files.readStream('/srv/tree/a', { signal }), abort));
      await aborting(async (signal, abort) => readAll(await files.pack('/srv/tree', { signal }), abort));
      // Nobody reads these: their end is nobody's error.
      await files.readStream('/srv/tree/a', { signal: nobody.signal });
      await files.pack('/srv/tree', { signal: nobody.signal });
      if (round === 0) {
        await aborting(async (signal, abort) => readAll(await box.exportStream({ signal }), abort));
        const archive = await box.exportStream({ signal: nobody.signal });
        await aborting((signal, abort) => runtime.import(until(archive, abort), { signal }));
      }
      nobody.abort();
    }
    for (const gone of [1, 2]) {
      runInNewContext('gc')();
      await new Promise((done) => setImmediate(done));
    }
    const { stdout } = await box.exec(['sh', '-c', 'ls -A /root /root/in | grep -c cryobox']);
    await say([...codes].join() + ' ' + stdout.toString().trim());
    await runtime.remove('b', { force: true });
    await runtime.close();
  `,
  );
  expect(program).toMatchObject({ stderr: '', stdout: 'cancelled 0', exitCode: 0 });
});

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const at = (name: string): Buffer => Buffer.concat([Buffer.from(`${host}/`), bytes(name)]);
/** Two that are equal when decoded, one with a newline, and the longest there is. */
const names = ['a\xff', 'a\xfe', 'line\nbreak', `\xe9${'x'.repeat(254)}`];

/** The tree that is copied to and fro, as the host has it. */
async function expectTree(root: string): Promise<void> {
  const found = await readdir(at(root), { encoding: 'buffer' });
  const sorted = found.map((name) => name.toString('latin1')).sort();
  expect(sorted).toEqual([...names, 'd\xff', 'link\xff'].sort());
  expect(await readlink(at(`${root}/link\xff`), { encoding: 'buffer' })).toEqual(bytes('t\xe9'));
  expect(await readdir(at(`${root}/d\xff`), { encoding: 'buffer' })).toEqual([bytes('\xfd')]);
}

it.each(['cli', ...engines])('names that are not UTF-8 are kept both ways: %s', async (how) => {
  await mkdir(at('tree/d\xff'), { recursive: true });
  for (const name of [...names, 'd\xff/\xfd']) await writeFile(at(`tree/${name}`), bytes(name));
  await symlink(bytes('t\xe9'), at('tree/link\xff'));
  const look = `
import os
for at, _, names in os.walk(b"/srv/tree"):
    for name in names:
        path = os.path.join(at, name)
        if os.path.islink(path): print(name.hex(), "->", os.readlink(path).hex())
        else: print(name.hex(), open(path, "rb").read().hex())
`;
  const hex = (text: string): string => bytes(text).toString('hex');
  const expected = names.map((name) => `${hex(name)} ${hex(name)}`);
  expected.push(`${hex('link\xff')} -> ${hex('t\xe9')}`, `${hex('\xfd')} ${hex('d\xff/\xfd')}`);
  let seen: string;
  if (how === 'cli') {
    await mustRun(home.path, 'create', '--name', 'b', 'debian-python');
    await mustRun(home.path, 'cp', join(host, 'tree'), 'b:/srv/tree');
    seen = await mustRun(home.path, 'exec', 'b', 'python3', '-c', look);
    await mustRun(home.path, 'cp', 'b:/srv/tree', join(host, 'back'));
  } else {
    const program = await spawnProgram(
      home.path,
      `
      const runtime = await Cryobox.local({ engine: '${how}', poolSize: 0 });
      const box = await runtime.create({ image: 'debian-python', name: 'b' });
      await box.files.copyIn(${JSON.stringify(join(host, 'tree'))}, '/srv/tree');
      const { stdout } = await box.exec(['python3', '-c', ${JSON.stringify(look)}]);
      await say(stdout.toString().trim());
      await box.files.copyOut('/srv/tree', ${JSON.stringify(join(host, 'back'))});
      await runtime.remove('b', { force: true });
      await runtime.close();
    `,
    );
    expect(program).toMatchObject({ stderr: '', exitCode: 0 });
    seen = program.stdout;
  }
  expect(seen.trim().split('\n').sort()).toEqual(expected.sort());
  await expectTree('back');
});
