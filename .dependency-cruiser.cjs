// Arrows point down only (docs/ARCHITECTURE.md, "Rooms"). A room may import the rooms listed for it, and base/, api/ and errors.
const below = {
  cli: ['home', 'remote'],
  home: ['engine', 'server', 'remote', 'store'],
  server: ['wire'],
  remote: ['wire'],
  wire: [],
  engine: ['machine', 'migration', 'memory', 'disk', 'image', 'guest', 'archive', 'store'],
  archive: ['disk', 'memory'],
  memory: ['migration'],
  machine: [],
  migration: [],
  disk: [],
  image: ['disk'],
  guest: [],
  store: [],
  api: [],
};

const roomRules = Object.entries(below).map(([room, allowed]) => ({
  name: `${room}-looks-down`,
  comment: `src/${room} may use: ${[...allowed, 'base', 'api', 'errors'].join(', ')}`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: {
    path: '^src/',
    pathNot: `^src/(${[room, ...allowed, 'base', 'api'].join('|')})/|^src/errors\\.ts$`,
  },
}));

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...roomRules,
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
