import { openSqlite, sqliteDriver } from '../../store/index.js';
import { type Check, type Finding, failed, ok, versionOf, warning } from './check.js';

/** The first release with all that is used; package.json `engines` says the same. */
const oldestNode = [20, 19] as const;

/** Node, the SQLite driver and the tools Cryobox calls. */
export const hostChecks: readonly Check[] = [
  { name: 'node', look: async () => checkNode(process.versions.node) },
  { name: 'sqlite', look: checkSqlite },
  {
    name: 'util-linux',
    look: () => checkTool('prlimit', '--version', 'util-linux', 'every machine needs it'),
  },
  { name: 'e2fsprogs', look: () => checkTool('mke2fs', '-V', 'e2fsprogs', 'every box needs it') },
  { name: 'zstd', look: () => checkTool('zstd', '--version', 'zstd', 'images and archives need it') },
  { name: 'mmdebstrap', look: checkMmdebstrap },
];

/** Whether a version of Node is new enough. */
function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const enough = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);
  if (enough) return ok(version);
  return failed(`${version}; ${oldestNode.join('.')} or newer is needed`, 'Install a newer Node.');
}

async function checkSqlite(): Promise<Finding> {
  const { name } = await sqliteDriver();
  const sqlite = await openSqlite(':memory:');
  try {
    const [row] = sqlite.prepare('select sqlite_version() as version').all([]) as { version: string }[];
    return ok(`SQLite ${row?.version}, ${name}`);
  } finally {
    sqlite.close();
  }
}

async function checkTool(
  command: string,
  flag: string,
  debianPackage: string,
  why: string,
): Promise<Finding> {
  const version = await versionOf(command, flag);
  if (version !== undefined) return ok(version);
  return failed(`${command} cannot be run; ${why}`, `apt-get install ${debianPackage}`);
}

async function checkMmdebstrap(): Promise<Finding> {
  const version = await versionOf('mmdebstrap', '--version');
  if (version !== undefined) return ok(version);
  const why = 'mmdebstrap cannot be run; only `cryobox images build` needs it';
  return warning(why, 'apt-get install mmdebstrap');
}
