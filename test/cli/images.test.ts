import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeLayout } from '../image/support/layout.js';
import { TestRegistry } from '../image/support/registry.js';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, seedHome, type TestHome } from '../support/home.js';
import { writeTinyImage } from '../support/tiny-image.js';

const user = { name: 'ann', password: 'secret' };

let directory: string;
let registry: TestRegistry;
let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);
const json = async (...args: string[]) => JSON.parse(await must(...args, '--format', 'json'));

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-cli-images-'));
  registry = await TestRegistry.start({ directory: join(directory, 'registry') });
  home = await newHome();
});

afterAll(async () => {
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** Moves the seed's image of Debian and Python to the registry: nothing of it stays in the home. */
async function moveDebianPython(path: string): Promise<void> {
  const { manifestDigest: digest } = await json('images', 'inspect', 'debian-python');
  const layout = join(directory, 'debian-python');
  await mkdir(join(layout, 'blobs'), { recursive: true });
  const blobs = join(seedHome, 'images/blobs/sha256');
  await symlink(blobs, join(layout, 'blobs/sha256'));
  const { size } = await stat(join(blobs, digest.slice('sha256:'.length)));
  const manifests = [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size }];
  await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await registry.push(`oci:${layout}`, path);
  await must('images', 'rm', 'debian-python');
  expect(await readdir(join(home.path, 'images/blobs/sha256'))).not.toContain(digest.slice(7));
}

it('pulls an image from a registry and runs it', async () => {
  await moveDebianPython('debian-python:1');
  const reference = `${registry.name}/debian-python:1`;
  const pull = await cli('pull', reference);
  expect(pull).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(reference) });
  expect(pull.stderr).toMatch(/^(layer [0-9a-f]{12} {2}.+ \/ .+\n)+$/);
  const { exitCode, stdout } = await cli('run', '--rm', reference, '--', 'python3', '-V');
  expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/^Python 3\.\d+\.\d+\n$/)]);
});

it('shows a line per layer on stderr, and the result alone on stdout', async () => {
  const layers = ['a', 'b', 'c'].map((name) => [{ name, content: name.repeat(10_000) }]);
  await registry.push(`oci:${await writeLayout(join(directory, 'three'), [{ layers }])}`, 'three:1');
  const { stdout, stderr } = await cli('pull', `${registry.name}/three:1`, '--format', 'json');
  expect(JSON.parse(stdout)).toMatchObject({ reference: `${registry.name}/three:1`, layerCount: 3 });
  const named = stderr.match(/^layer [0-9a-f]{12}/gm) ?? [];
  expect(new Set(named).size).toBe(3);
  const failed = await cli('pull', `${registry.name}/nothing:1`);
  expect(failed.exitCode).toBe(125);
  expect(failed.stderr).toMatch(/^error: .*nothing.*\nhint: /s);
});

it('lists, inspects, imports, removes and prunes, as JSON too', { timeout: 240_000 }, async () => {
  const layout = await writeTinyImage(join(directory, 'tiny'), { files: { hello: 'hello' } });
  const made = await json('images', 'import', layout, '--reference', 'mine:2');
  const [mine] = (await json('images', 'ls')).filter(({ tag }: { tag: string }) => tag === '2');
  expect(mine).toMatchObject({ id: made.configDigest, repository: 'mine', layerCount: 1 });
  expect(await json('images', 'inspect', 'mine:2')).toEqual(mine);
  const table = await must('images', 'ls');
  const shortId = made.configDigest.slice(7, 19);
  expect(table).toMatch(new RegExp(`^mine:2 +${shortId} +1 `, 'm'));
  expect((await must('images', 'ls', '-q')).split('\n')).toContain('mine:2');
  const inspected = await must('images', 'inspect', shortId);
  expect(inspected).toContain(made.configDigest);

  const box = (await must('create', 'mine:2')).trim();
  const refused = await cli('images', 'rm', 'mine:2', 'no-such-image');
  expect(refused).toMatchObject({ exitCode: 125, stdout: '' });
  expect(refused.stderr).toContain(box);
  expect(refused.stderr).toContain('no-such-image');
  expect(await json('images', 'rm', '--force', 'mine:2')).toEqual(['mine:2']);
  expect(await must('exec', box, 'cat', '/hello')).toBe('hello');
  await must('rm', '--force', box);

  await must('images', 'import', layout, '--reference', 'unused');
  const pruned = await json('images', 'prune');
  expect(pruned).toContainEqual(expect.stringMatching(/unused:latest$/));
  expect(await json('images', 'ls')).toEqual([]);
});

it('says what is wrong with a build', async () => {
  const args = ['images', 'build', 'bare', '--from-debian', 'no-such-suite', '--format', 'json'];
  const failed = await cli(...args);
  expect(failed).toMatchObject({ exitCode: 125, stdout: '' });
  expect(failed.stderr).toMatch(/^error: /m);
  const bad = await cli('images', 'build', 'Bad Name', '--packages', 'python3');
  expect(bad).toMatchObject({ exitCode: 125, stderr: expect.stringContaining('Bad Name') });
});

it('reaches a registry with a password and a certificate of its own', async () => {
  const own = join(directory, 'private');
  await using closed = await TestRegistry.start({ directory: own, tls: true, user });
  const layout = await writeTinyImage(join(directory, 'secret'), { files: { hello: 'secret' } });
  await closed.push(`oci:${layout}`, 'secret:1');
  const reference = `${closed.name}/secret:1`;
  expect((await cli('pull', reference)).stderr).toContain('no secure connection');
  const unknown = await cli('pull', reference, '--ca-file', closed.caFile);
  expect(unknown.stderr).toContain('401');
  const args = ['pull', reference, '--ca-file', closed.caFile, '--username', user.name, '--password-stdin'];
  const pulled = await spawnCli(home.path, [...args, '--format', 'json'], {
    stdin: 'pipe',
    input: `${user.password}\n`,
  });
  expect(JSON.parse(String(pulled.stdout))).toMatchObject({ reference, layerCount: 1 });
  const unverified = ['pull', reference, '--skip-verify', '--username', user.name, '--password-stdin'];
  const again = await spawnCli(home.path, unverified, { stdin: 'pipe', input: user.password });
  expect(again.exitCode).toBe(0);
});
