// Arrows point down only (docs/ARCHITECTURE.md, "Rooms"). A room may import the rooms listed for it, its own files, and
// base/, api/ and errors.
const formats = {
  'formats/qcow2': [],
  'formats/qemu-stream': [],
  'formats/tree': [],
  'formats/ext4': ['formats/tree', 'formats/qcow2'],
  'formats/oci': ['formats/tree', 'formats/ext4', 'formats/qcow2'],
  'formats/pages': ['formats/qemu-stream'],
  'formats/archive': ['formats/qcow2', 'formats/pages'],
};
const anyFormat = Object.keys(formats);

/** What makes up boxes: all inner rooms of the engine that stand before them. */
const belowBoxes = [
  'core',
  'record',
  'layers',
  'volumes',
  'images',
  'machines',
  'states',
  'transfer',
  'commands',
  'replicas',
];

/** The inner rooms of the engine, in one order: each may use those before it. */
const engineOrder = [
  ['core', []],
  ['record', ['core']],
  ['layers', ['core', 'record']],
  ['volumes', ['core', 'record', 'layers']],
  ['images', ['core', 'record', 'layers']],
  ['machines', ['core', 'record', 'layers', 'volumes']],
  ['states', ['core', 'record', 'layers', 'volumes', 'machines']],
  ['transfer', ['core', 'record', 'layers', 'volumes', 'machines', 'states']],
  ['commands', ['core', 'record', 'layers', 'volumes', 'machines', 'states']],
  ['replicas', ['core', 'record', 'layers', 'volumes', 'images', 'machines', 'states']],
  ['boxes', belowBoxes],
  // Boxes are what it builds with.
  ['builds', [...belowBoxes, 'boxes']],
];

const below = {
  cli: ['home', 'remote', 'mcp', 'ssh'],
  home: ['engine', 'install', 'server', 'remote', 'objects', 'store'],
  install: ['engine', 'machine', 'guest', 'memory', 'store', ...anyFormat],
  'server/v1': ['server/http', 'wire'],
  'server/e2b': ['server/http', 'wire'],
  'server/ui': ['server/http'],
  'server/mcp': ['server/http', 'wire', 'mcp'],
  'server/http': ['wire'],
  mcp: [],
  ssh: [],
  remote: ['wire', 'surface'],
  wire: [],
  surface: [],
  engine: [
    'surface',
    'machine',
    'network',
    'interceptor',
    'memory',
    'image',
    'registry',
    'guest',
    'objects',
    'store',
    ...anyFormat,
  ],
  network: ['machine'],
  interceptor: [],
  registry: ['image', ...anyFormat],
  image: [...anyFormat],
  memory: ['formats/pages', 'formats/qemu-stream'],
  machine: [],
  guest: [],
  objects: [],
  store: [],
  api: [],
  ...formats,
};

const withBase = (rooms) => [...rooms, 'base', 'api'].join('|');

const roomRules = Object.entries(below).map(([room, allowed]) => ({
  name: `${room}-looks-down`,
  comment: `src/${room} may use: ${[...allowed, 'base', 'api', 'errors'].join(', ')}`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: { path: '^src/', pathNot: `^src/(${withBase([room, ...allowed])})/|^src/errors\\.ts$` },
}));

const engineRules = engineOrder.map(([room, allowed]) => ({
  name: `engine-${room}-looks-down`,
  comment: `src/engine/${room} may use of the engine: ${allowed.join(', ') || 'nothing'}`,
  severity: 'error',
  from: { path: `^src/engine/${room}/` },
  to: { path: '^src/engine/', pathNot: `^src/engine/(${[room, ...allowed].join('|')})/` },
}));

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...roomRules,
    ...engineRules,
    {
      name: 'server-looks-down',
      comment: 'what puts the server together uses its dialects and what they stand on',
      severity: 'error',
      from: { path: '^src/server/[^/]+\\.ts$' },
      to: { path: '^src/', pathNot: `^src/(${withBase(['server', 'wire'])})/|^src/errors\\.ts$` },
    },
    {
      name: 'formats-know-no-home',
      comment: 'formats are read and written in files and streams they are given',
      severity: 'error',
      from: { path: '^src/formats/' },
      to: { path: '^src/', pathNot: '^src/(formats|base|api)/|^src/errors\\.ts$' },
    },
    {
      name: 'base-is-the-floor',
      severity: 'error',
      from: { path: '^src/base/' },
      to: { path: '^src/', pathNot: '^src/base/|^src/errors\\.ts$' },
    },
    {
      name: 'errors-need-nothing',
      severity: 'error',
      from: { path: '^src/errors\\.ts$' },
      to: { path: '^src/' },
    },
    {
      name: 'one-place-starts-processes',
      comment:
        'src/base/process/ attaches handlers in the same tick and turns refusals of the host into typed errors',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/base/process/' },
      to: { path: '^(node:)?(child_process|cluster)$' },
    },
    {
      name: 'only-the-store-knows-sql',
      comment:
        'statements are functions of src/store; scripts/check-statements.mjs looks for those that are not',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/store/' },
      to: { path: 'node_modules/(kysely|better-sqlite3)/|^(node:)?sqlite$' },
    },
    {
      name: 'one-place-knows-s3',
      comment: 'the client of S3 is loaded where a store of that protocol is used, and may be absent',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/objects/s3' },
      to: { path: 'node_modules/@aws-sdk/' },
    },
    {
      name: 'one-place-knows-ssh2',
      comment: 'a program that takes the engine in does not take a server of SSH with it',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/ssh/' },
      to: { path: 'node_modules/ssh2/' },
    },
    {
      name: 'web-stands-alone',
      comment: 'the dashboard runs in browsers, and knows the REST API only',
      severity: 'error',
      from: { path: '^web/' },
      to: { path: '^(src|test|scripts)/|^node:' },
    },
    {
      name: 'web-is-built',
      comment: 'the server hands out what was built of it',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^web/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'remote-has-no-native-dependency',
      severity: 'error',
      from: { path: '^src/(remote|wire|api|base)/' },
      to: { path: 'node_modules/(better-sqlite3|kysely|fastify|@fastify)' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'types'],
    },
  },
};
