import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Stage } from '../conformance/support.js';
import { installedOnce, installMs, npmInstall } from '../support/installed.js';
import { installedPython } from '../support/python-client.js';

/** Clients that generators make of our description, in the versions they are tried with. */
const typescriptPackages = ['openapi-typescript@7.13.0', 'openapi-fetch@0.17.0'];
const pythonGenerator = { name: 'openapi-python-client', version: '0.29.1' };

let stage: Stage;
let directory: string;
beforeAll(async () => {
  stage = await Stage.open();
  directory = await mkdtemp(join(tmpdir(), 'cryobox-openapi-'));
  const document = await fetch(`${stage.keyedUrl}/v1/openapi.json`);
  await writeFile(join(directory, 'v1.json'), await document.text());
});
afterAll(async () => {
  await stage.close();
  await rm(directory, { recursive: true, force: true });
});

const typed = `
import createClient from 'openapi-fetch';
import type { components, paths } from './v1.js';

declare const process: { readonly env: { readonly URL: string; readonly KEY: string } };
const headers = { authorization: 'Bearer ' + process.env.KEY };
const client = createClient<paths>({ baseUrl: process.env.URL, headers });

const made = await client.POST('/v1/boxes', {
  body: { image: 'tiny', name: 'typed', memory_mib: 512, env: { TOKEN: 'x' } },
  params: { header: { 'idempotency-key': 'typed-1' } },
});
if (!made.data) throw new Error(made.error.error.message);
const box: components['schemas']['Box'] = made.data;
const status: 'running' | 'stopped' | 'configured' | 'stopping' | 'paused' | 'failed' = box.status;
const path = { id: box.box_id };
await client.PUT('/v1/boxes/{id}/files/content', {
  params: { path, query: { path: '/root/x', uid: 0, gid: 0 } },
  body: 'from types',
  bodySerializer: (body) => body,
  headers: { 'content-type': 'application/octet-stream' },
});
const ran = await client.POST('/v1/boxes/{id}/exec', {
  params: { path, query: { wait: true } },
  body: { command: 'cat', args: ['/root/x'] },
});
if (!ran.data || !('stdout' in ran.data)) throw new Error('no output');
const read = await client.GET('/v1/boxes/{id}/files/content', {
  params: { path, query: { path: '/root/x' } },
  parseAs: 'text',
});
const stopped = await client.POST('/v1/boxes/{id}/stop', { params: { path } });
const listed = await client.GET('/v1/boxes', { params: { query: { pageSize: 1 } } });
const removed = await client.DELETE('/v1/boxes/{id}', { params: { path, query: { force: true } } });
const gone = await client.GET('/v1/boxes/{id}', { params: { path } });
// @ts-expect-error a path that is none
void (() => client.GET('/v1/nothing'));
// @ts-expect-error a name of a status that is none
void ((): boolean => box.status === 'sleeping');
// @ts-expect-error a body that is wrong
void (() => client.POST('/v1/boxes', { body: { image: 5 } }));
console.log(
  JSON.stringify([
    status,
    ran.data.stdout,
    read.data,
    stopped.data?.status,
    listed.data?.boxes.length,
    removed.response.status,
    gone.error?.error.code,
  ]),
);
`;

it(
  'openapi-typescript makes types that a strict program compiles with, and openapi-fetch calls',
  async () => {
    const installed = await installedOnce(`npm/${typescriptPackages.join('-')}`, async (into) => {
      await execa('npm', [...npmInstall, '--prefix', into, ...typescriptPackages, 'typescript@5'], {
        timeout: installMs,
      });
    });
    const project = join(directory, 'typed');
    await execa('mkdir', [project]);
    await symlink(join(installed, 'node_modules'), join(project, 'node_modules'));
    await execa(join(project, 'node_modules/.bin/openapi-typescript'), ['../v1.json', '-o', 'v1.d.ts'], {
      cwd: project,
    });
    await writeFile(join(project, 'package.json'), '{"type": "module"}');
    await writeFile(join(project, 'program.ts'), typed);
    const strict = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      types: [],
    };
    const target = { target: 'es2022', lib: ['es2022', 'dom', 'dom.iterable'], module: 'nodenext' };
    const config = { compilerOptions: { ...strict, ...target }, files: ['program.ts'] };
    await writeFile(join(project, 'tsconfig.json'), JSON.stringify(config));
    await execa(resolve('node_modules/.bin/tsc'), ['-p', project]);
    const env = { URL: stage.keyedUrl, KEY: 'owner' };
    const { stdout } = await execa('node', ['program.js'], { cwd: project, env });
    expect(JSON.parse(stdout)).toEqual([
      'running',
      'from types',
      'from types',
      'stopped',
      1,
      204,
      'not_found',
    ]);
  },
  installMs,
);

const python = `
import json, os
from io import BytesIO
from made.client import AuthenticatedClient
from made.types import File
from made.models import CloneBoxBody, CreateBoxRequest, CreateBoxRequestEnv, ErrorAnswer, ExecRequest
from made.api.boxes import (clone_box, create_box, export_box, get_box, import_box, list_boxes, read_file, remove_box,
    start_exec, stop_box, write_file)

client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["KEY"], timeout=60)
env = CreateBoxRequestEnv.from_dict({"TOKEN": "first"})
box = create_box.sync(client=client, body=CreateBoxRequest(image="tiny", name="python", env=env), idempotency_key="py-1")
id = box.box_id
written = write_file.sync_detailed(id, client=client, path="/root/x", body=File(payload=BytesIO(b"from python")))
read = read_file.sync(id, client=client, path="/root/x")
ran = start_exec.sync(id, client=client, wait=True, body=ExecRequest(command="sh", args=["-c", "cat /root/x; exit 3"]))
archive = export_box.sync(id, client=client)
taken = import_box.sync(client=client, body=File(payload=archive.payload), name="taken", cryobox_env='{"MORE": "x"}')
stopped = stop_box.sync(id, client=client)
names = sorted(it.name for it in list_boxes.sync(client=client).boxes)
for each in (id, taken.box_id):
    remove_box.sync_detailed(each, client=client, force=True)
gone = get_box.sync(id, client=client)
wrong = create_box.sync_detailed(client=client, body=CreateBoxRequest(image="tiny", cpus=10_000))
print(json.dumps([written.status_code, read.payload.read().decode(), ran.stdout, ran.exit_code, taken.missing_env,
    taken.env.to_dict()["MORE"], stopped.status.value, names, gone.error.code, wrong.status_code,
    isinstance(wrong.parsed, ErrorAnswer)]))
`;

/** What it has no parser for, which is bytes or text to it. */
const generatorOptions = JSON.stringify({
  post_hooks: [],
  content_type_overrides: {
    'application/x-tar': 'application/octet-stream',
    'application/x-ndjson': 'text/plain',
    'text/plain; version=0.0.4': 'text/plain',
  },
});

it(
  'openapi-python-client makes a client of all operations, which makes, uses, copies and removes boxes',
  async () => {
    const { name, version } = pythonGenerator;
    const packages = await installedPython(name, version);
    await writeFile(join(directory, 'options.json'), generatorOptions);
    const made = ['--path', 'v1.json', '--output-path', 'made', '--meta', 'none', '--config', 'options.json'];
    const env = { PYTHONPATH: `${packages}:${directory}`, URL: stage.keyedUrl, KEY: 'owner' };
    const generator = ['-m', 'openapi_python_client', 'generate', ...made, '--fail-on-warning'];
    await execa('python3', generator, { cwd: directory, env });
    await execa('python3', ['-m', 'compileall', '-q', 'made'], { cwd: directory, env });
    const { stdout } = await execa('python3', ['-c', python], { cwd: directory, env });
    expect(JSON.parse(stdout)).toEqual([
      204,
      'from python',
      'from python',
      3,
      ['TOKEN'],
      'x',
      'stopped',
      ['python', 'taken'],
      'not_found',
      400,
      true,
    ]);
  },
  installMs,
);
