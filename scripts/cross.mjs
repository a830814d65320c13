// `node scripts/cross.mjs arm64`: what boxes of another processor need on this host, for work on it and for tests: QEMU, the
// kernel, and the agent built for it. Doing it twice does nothing. With `--unpack NAME DIRECTORY` also the files of one of
// Debian's packages for that processor.
import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { chdir } from 'node:process';
import { fileURLToPath } from 'node:url';
import { architectureNames, architectureRow } from './lib/architectures.mjs';
import { buildGuestFor } from './lib/cross.mjs';
import { aptFor, unpackPackages } from './lib/debian-files.mjs';
import { ensureHostPackages } from './lib/host-packages.mjs';
import { ensureKernel } from './lib/kernel.mjs';
import { main, step } from './lib/report.mjs';
import { SetupError } from './lib/run.mjs';

await main(async () => {
  const [architecture, option, name, directory] = process.argv.slice(2);
  const others = architectureNames.filter((it) => it !== process.arch);
  if (!others.includes(architecture) || (option !== undefined && (option !== '--unpack' || !directory))) {
    throw new SetupError(
      'Usage: cross.mjs PROCESSOR [--unpack PACKAGE DIRECTORY]',
      `Processors: ${others.join(' ')}`,
    );
  }
  chdir(fileURLToPath(new URL('..', import.meta.url)));
  const row = architectureRow(architecture);
  await step('Host packages', () => ensureHostPackages([row.qemu]));
  await step(`Guest kernel for ${architecture}`, () => ensureKernel(architecture));
  await step(`Guest agent for ${architecture}`, () => buildGuestFor(architecture, ['cryobox-agent']));
  if (option) await step(`${name} for ${architecture}`, () => unpack(row.debian, name, directory));
});

async function unpack(debian, name, directory) {
  if (existsSync(directory)) return 'there already';
  const work = await mkdtemp(`${directory}.`);
  try {
    const apt = await aptFor(debian, work);
    const wanted = `${name}${apt.suffix}`;
    await rename(await unpackPackages(apt, work, async () => [wanted], wanted), directory);
    return 'unpacked';
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
