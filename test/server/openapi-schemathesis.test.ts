import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Stage } from '../conformance/support.js';
import { installMs } from '../support/installed.js';
import { installedPython } from '../support/python-client.js';

const version = '4.32.5';

/** Every answer is one that the description tells of, and none says that the server failed. */
const checks = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
];

/** No answer in the sense of the tool: WebSockets, and what never ends. */
const endless = ['execStream', 'attachExecution', 'attachMain', 'connectPort', 'streamEvents'];

/** Also refused: a head of a request that is too large. */
const refusals = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, 431, '5xx'].map(String);

let stage: Stage;
let directory: string;
let packages: string;
beforeAll(async () => {
  packages = await installedPython('schemathesis', version);
  stage = await Stage.open();
  const box = await stage.engine.runtime().create({ image: 'tiny', name: 'tried', detach: true });
  await box.snapshot.create('first');
  const execution = await box.startExec(['true']);
  await execution.wait();
  directory = await mkdtemp(join(tmpdir(), 'cryobox-schemathesis-'));
  await writeFile(
    join(directory, 'schemathesis.toml'),
    `[parameters]
"path.id" = "tried"
"path.name" = "first"
"path.eid" = ${JSON.stringify(execution.id)}
"path.reference" = "tiny"

[checks.negative_data_rejection]
expected-statuses = ${JSON.stringify(refusals)}
`,
  );
}, installMs);
afterAll(async () => {
  await stage.close();
  await rm(directory, { recursive: true, force: true });
});

async function tried(
  methods: readonly string[],
  without: readonly string[],
  more: readonly string[],
): Promise<string> {
  const { stdout } = await execa(
    'python3',
    [
      ...['-m', 'schemathesis.cli', 'run', `${stage.keyedUrl}/v1/openapi.json`],
      ...['-H', 'Authorization: Bearer owner', '--checks', checks.join(), '--seed', '1', '--warnings', 'off'],
      ...[
        '--phases',
        'coverage,fuzzing',
        '--request-timeout',
        '20',
        '--no-color',
        '--generation-database',
        'none',
      ],
      ...methods.flatMap((method) => ['--include-method', method]),
      ...without.flatMap((operation) => ['--exclude-operation-id', operation]),
      ...more,
    ],
    { cwd: directory, env: { PYTHONPATH: packages }, reject: false },
  );
  return stdout;
}

it('schemathesis finds no route that reads and fails, or answers what is not told of', async () => {
  const report = await tried(['GET'], endless, ['--max-examples', '6']);
  expect(report).toContain('No issues found');
}, 120_000);

it('schemathesis finds no route that takes what the description rules out', async () => {
  // The first would end this engine. Of the others nothing need be said, and `null` says as much.
  const without = [
    'handOverEngine',
    'collectGarbage',
    'createVolume',
    'stopBox',
    'startBox',
    'resumeBox',
    'cloneBox',
    'exportBox',
  ];
  const report = await tried(['POST', 'PUT'], without, ['--max-examples', '3', '--mode', 'negative']);
  expect(report).toContain('No issues found');
}, 120_000);
