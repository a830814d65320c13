/**
 * Pins the newest official clients for the tests (`npm run clients`): in test/support/boxlite-versions.json the newest of
 * each registry, for Python also one in the middle, beside the oldest that is supported.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tryRun } from './lib/run.mjs';

const file = fileURLToPath(new URL('../test/support/boxlite-versions.json', import.meta.url));
const native = '@boxlite-ai/boxlite-linux-x64-gnu';

/** A registry answers within seconds. */
const timeoutMs = 60_000;

async function output(command, args) {
  const { status, stdout, tail } = await tryRun(command, args, { timeoutMs, capture: true });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${tail}`);
  return stdout;
}

const byNumber = (a, b) => a.localeCompare(b, 'en', { numeric: true });

/** Releases from the oldest supported one on; candidates and the like are left out. */
function since(oldest, versions) {
  const released = versions.filter((version) => /^\d+(\.\d+)+$/.test(version));
  return released.filter((version) => byNumber(version, oldest) >= 0).sort(byNumber);
}

const pinned = JSON.parse(readFileSync(file, 'utf8'));
const listed = await output('python3', ['-m', 'pip', 'index', 'versions', 'boxlite']);
const python = since(pinned.python[0], /Available versions: (.*)/.exec(listed)?.[1]?.split(', ') ?? []);
const natives = since(
  pinned.native[0],
  JSON.parse(await output('npm', ['view', native, 'versions', '--json'])),
);
if (python.length < 3 || natives.length < 1)
  throw new Error('the registries name no releases of the clients');
const raised = {
  ...pinned,
  python: [python[0], python[Math.floor((python.length - 1) / 2)], python.at(-1)],
  native: [...new Set([natives[0], natives.at(-1)])],
};
writeFileSync(file, `${JSON.stringify(raised, null, 2)}\n`);
console.log(`Python ${raised.python.join(', ')}; native of npm ${raised.native.join(', ')}`);
