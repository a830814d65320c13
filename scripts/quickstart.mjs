// Set-up, an image and a first box: a Python program runs in a virtual machine.
import { prepare } from './lib/prepare.mjs';
import { duration, main, printTable, step, stepRows } from './lib/report.mjs';
import { run, tryRun } from './lib/run.mjs';

const IMAGE = 'debian-python';
const CLI = 'dist/cli/main.js';
/** mmdebstrap of a minimal Debian with Python takes about two minutes on two cores. */
const BUILD_TIMEOUT_MS = 1_200_000;
/** The first box boots the golden machine, under emulation too. */
const BOX_TIMEOUT_MS = 300_000;

const program = `
import os, platform
print("Hello from Python", platform.python_version(), "in a box")
print("kernel", platform.release(), "with", os.cpu_count(), "cpu")
print("6 * 7 =", 6 * 7)
`;

const cryobox = (args, options) => run(process.execPath, [CLI, ...args], { capture: true, ...options });

await main(async () => {
  await prepare({ forTests: false });
  await step(`Image ${IMAGE}`, ensureImage);
  const box = await firstBox();
  try {
    await demo(box);
  } finally {
    await cryobox(['rm', '--force', box], { timeoutMs: 60_000 });
  }
  process.stdout.write('\nTry it:  npx cryobox run --rm debian-python -- python3 -c "print(6*7)"\n');
});

async function ensureImage() {
  const there = await tryRun(process.execPath, [CLI, 'images', 'inspect', IMAGE], { timeoutMs: 60_000 });
  if (there.status === 0) return 'up to date';
  const args = ['images', 'build', IMAGE, '--recipe', 'python'];
  await cryobox(args, { timeoutMs: BUILD_TIMEOUT_MS, label: IMAGE });
  return 'built';
}

/** The first box of all boots the golden machine; every later one is restored from it. */
async function firstBox() {
  let box = '';
  await step('Golden machine and first box', async () => {
    const { stdout } = await cryobox(['create', IMAGE], { timeoutMs: BOX_TIMEOUT_MS, label: 'box' });
    box = stdout.trim();
    return box;
  });
  return box;
}

async function demo(box) {
  let output = '';
  await step('Python program', async () => {
    const { stdout } = await cryobox(['exec', box, '--', 'python3', '-c', program], { timeoutMs: 120_000 });
    output = stdout;
    return 'ran';
  });
  const { stdout } = await cryobox(['inspect', box, '--format', 'json'], { timeoutMs: 60_000 });
  const { stages } = JSON.parse(stdout);
  process.stdout.write(`\n${output}\nSteps\n`);
  printTable(stepRows());
  const stageRows = Object.entries(stages).map(([name, ms]) => [name, duration(ms)]);
  if (stageRows.length > 0) {
    process.stdout.write('\nStart of the box, by stage\n');
    printTable(stageRows);
  }
}
