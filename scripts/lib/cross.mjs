// The guest's programs for another processor than this host's. The crates need nothing but the standard library, so the
// compiler alone builds them: one on this host that has the library for the target, else Debian's, unpacked and never
// installed, since a host takes no packages for another processor without being told to.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { architectureRow, guestFolder } from './architectures.mjs';
import { publish, sourceHash } from './build.mjs';
import { install, missing } from './debian.mjs';
import { aptFor, dependencies, unpackPackages } from './debian-files.mjs';
import { cacheDirectory } from './kernel.mjs';
import { run, SetupError, searchPath, tryRun } from './run.mjs';

const BUILD_TIMEOUT_MS = 600_000;
const PROBE_TIMEOUT_MS = 60_000;

/** Flags of all programs; what `[profile.release]` of their Cargo.toml and their .cargo/config.toml say. */
const common = ['--edition', '2021', '-C', 'panic=abort', '-C', 'codegen-units=1', '-C', 'strip=symbols'];
const isStatic = ['-C', 'target-feature=+crt-static', '-C', 'relocation-model=static'];

/** A program: its crate, and how its library (if it is a program with one) and it itself are compiled. */
const programs = [
  {
    file: 'cryobox-agent',
    crate: 'agent',
    library: 'cryobox_agent',
    flags: ['-C', 'opt-level=2', ...isStatic],
  },
  {
    file: 'netguard.so',
    crate: 'agent/netguard',
    flags: [
      '-C',
      'opt-level=s',
      '-C',
      'relocation-model=pic',
      '--crate-type',
      'cdylib',
      '--crate-name',
      'netguard',
    ],
  },
  {
    file: 'cryobox-gateway',
    crate: 'gateway',
    library: 'cryobox_gateway',
    flags: ['-C', 'opt-level=2', ...isStatic],
  },
];

/** Builds programs for a processor into their folder, by default all, unless they are there from the same sources. */
export async function buildGuestFor(architecture, files = programs.map(({ file }) => file)) {
  const { cross } = architectureRow(architecture);
  const absent = [...missing([cross])];
  // The compiler comes without the C library of its target.
  if (absent.length > 0)
    await install([...absent, `libc6-dev-${architectureRow(architecture).debian}-cross`]);
  const compiler = await compilerFor(architecture);
  const folder = guestFolder(architecture);
  const hash = await sourceHash(['agent', 'gateway'], `${compiler.version}\n`);
  await mkdir(folder, { recursive: true });
  const built = [];
  for (const program of programs.filter(({ file }) => files.includes(file))) {
    const stamp = join(folder, `.${program.file}.stamp`);
    const made = join(folder, program.file);
    if (existsSync(made) && (await readFile(stamp, 'utf8').catch(() => '')) === hash) continue;
    await compile(compiler, program, architecture, made);
    await writeFile(stamp, hash);
    built.push(program.file);
  }
  return built.length === 0 ? 'up to date' : `${built.join(', ')} built with ${compiler.version}`;
}

async function compile({ rustc, env }, { crate, library, flags, file }, architecture, made) {
  const { rustTarget, cross } = architectureRow(architecture);
  const work = await mkdtemp(join(resolve(guestFolder(architecture)), '.build-'));
  const shared = [...common, ...flags, '--target', rustTarget, '-C', `linker=${cross.command}`];
  const options = {
    cwd: crate,
    // As cargo says it to the compiler.
    env: { ...env, CARGO_PKG_VERSION: await versionOf(crate) },
    timeoutMs: BUILD_TIMEOUT_MS,
    label: `rustc ${file}`,
  };
  const output = join(work, 'out');
  try {
    if (library) {
      const rlib = join(work, `lib${library}.rlib`);
      await run(
        rustc,
        [...shared, '--crate-type', 'rlib', '--crate-name', library, '-o', rlib, 'src/lib.rs'],
        options,
      );
      const args = ['--crate-name', file.replaceAll('-', '_'), '--extern', `${library}=${rlib}`, '-C', 'lto'];
      await run(rustc, [...shared, ...args, '-o', output, 'src/main.rs'], options);
    } else {
      await run(rustc, [...shared, '-C', 'lto', '-o', output, 'src/lib.rs'], options);
    }
    await publish(output, made);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function versionOf(crate) {
  const version = /^version = "([^"]+)"/m.exec(await readFile(join(crate, 'Cargo.toml'), 'utf8'))?.[1];
  if (!version) throw new SetupError(`${crate}/Cargo.toml names no version`);
  return version;
}

/** A compiler with the standard library of the target: path, what it needs in its environment, and its version. */
async function compilerFor(architecture) {
  const { rustTarget } = architectureRow(architecture);
  for (const directory of new Set(searchPath())) {
    const rustc = join(directory, 'rustc');
    if (!existsSync(rustc)) continue;
    const found = await probe(rustc, {}, rustTarget);
    if (found) return found;
  }
  const kept = join(cacheDirectory(), `rust-${architecture}`);
  if (!existsSync(kept)) await fetchCompiler(architecture, kept);
  const libraries = join(kept, 'usr/lib', `${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`);
  const found = await probe(join(kept, 'usr/bin/rustc'), { LD_LIBRARY_PATH: libraries }, rustTarget);
  if (found) return found;
  throw new SetupError(
    `The Rust compiler in ${kept} does not work, or has no library for ${rustTarget}`,
    'Remove that directory, or add the target to a compiler of your own: `rustup target add`.',
  );
}

async function probe(rustc, env, rustTarget) {
  const options = { cwd: 'agent', env, timeoutMs: PROBE_TIMEOUT_MS, capture: true };
  const { status, stdout } = await tryRun(rustc, ['--print', 'sysroot'], options);
  if (status !== 0) return undefined;
  const library = join(stdout.trim(), 'lib/rustlib', rustTarget, 'lib');
  const files = await readdir(library).catch(() => []);
  if (!files.some((name) => name.startsWith('libstd-') && name.endsWith('.rlib'))) return undefined;
  const { stdout: version } = await tryRun(rustc, ['--version'], options);
  return { rustc, env, version: version.trim() };
}

/** Debian's compiler for this host, and its standard library for the other processor, which has to be of the same version. */
async function fetchCompiler(architecture, kept) {
  await mkdir(cacheDirectory(), { recursive: true });
  const work = await mkdtemp(`${kept}.`);
  try {
    const apt = await aptFor(architectureRow(architecture).debian, work);
    const names = async () => {
      const [shared] = await dependencies(apt, 'libstd-rust-dev', /^libstd-rust-[0-9]/);
      if (!shared) return [];
      const llvm = await dependencies(apt, shared, /^libllvm/);
      return ['rustc', shared, ...llvm, `libstd-rust-dev${apt.suffix}`];
    };
    await rename(await unpackPackages(apt, work, names, `libstd-rust-dev${apt.suffix}`), kept);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
