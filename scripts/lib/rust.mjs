// The Rust compiler for the guest's programs: the first on the host that really works, whoever installed it.
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { install, missing, rustLinkPackages, rustPackages } from './debian.mjs';
import { SetupError, searchPath, tryRun } from './run.mjs';

/** Where Debian's packages put a compiler (`cargo` and `rustc`, or the newer `cargo-web` and `rustc-web`). */
const DEBIAN = '/usr/bin';
const PROBE_TIMEOUT_MS = 60_000;

/**
 * A compiler: the directory of its `cargo` and `rustc`, the environment that makes both come from there, and what
 * cargo says of itself.
 * @typedef {{ directory: string, env: Record<string, string>, version: string }} Compiler
 */

/** Debian packages that are missing for building the guest's programs; a compiler of any origin will do. */
export async function missingForRust() {
  const { compiler } = await findCompiler();
  return [...missing(rustLinkPackages), ...(compiler ? [] : rustPackages)];
}

/**
 * The first compiler that works, of those on the PATH and Debian's; Debian's is installed when there is none.
 * @returns {Promise<Compiler>}
 */
export async function ensureCompiler() {
  const found = await findCompiler();
  for (const { directory, why } of found.broken) {
    process.stdout.write(`     cargo in ${directory} does not work (${why}); trying the next\n`);
  }
  if (found.compiler) return found.compiler;
  process.stdout.write('     no cargo that works; taking the one of the distribution\n');
  await install(rustPackages);
  const { compiler, broken } = await findCompiler();
  if (compiler) return compiler;
  const tried = broken.map(({ directory, why }) => `${join(directory, 'cargo')}: ${why}`);
  throw new SetupError(
    `No Rust compiler works\n${tried.join('\n')}`,
    'With rustup: `rustup default stable`. With Debian: `apt-get install --reinstall cargo rustc`.',
  );
}

async function findCompiler() {
  const directories = [...new Set([...searchPath(), DEBIAN])];
  const broken = [];
  for (const directory of directories) {
    if (!existsSync(join(directory, 'cargo'))) continue;
    // First on the PATH, so that this cargo takes the compiler beside it and no shim of another installation.
    const env = { PATH: [directory, ...directories].join(delimiter) };
    const cargo = await probe('cargo', ['--version'], directory, env);
    const rustc = cargo.status === 0 ? await probe('rustc', ['--version'], directory, env) : cargo;
    if (rustc.status === 0) return { compiler: { directory, env, version: cargo.stdout.trim() }, broken };
    broken.push({ directory, why: firstLine(rustc.tail) });
  }
  return { compiler: undefined, broken };
}

/** In the crate's directory: rustup may choose another tool chain there. */
function probe(command, args, directory, env) {
  const path = existsSync(join(directory, command)) ? join(directory, command) : command;
  return tryRun(path, args, { cwd: 'agent', env, timeoutMs: PROBE_TIMEOUT_MS, capture: true });
}

function firstLine(text) {
  return text.trim().split('\n')[0]?.slice(0, 160) || 'it says nothing';
}
