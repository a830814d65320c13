import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { builtEntry } from '../support/built.js';
import { newHome } from '../support/home.js';
import { part } from '../support/part.js';
import { temporaryDirectory } from '../support/temporary.js';
import { acts } from './acts.js';
import type { Finding } from './driver.js';

const driver = fileURLToPath(new URL('driver.ts', import.meta.url));
/** Every refusal takes a quarter of an hour and more; `npm test` takes a ninth, another one each day. */
const parts = process.env.CRYOBOX_REFUSALS === 'all' ? 1 : 9;
/** All refusals of one operation on a busy host. */
const limitMs = 1_800_000;

/** Every call to the host that an act makes is refused, one after the other; resolves with what that led to. */
async function refused(act: string): Promise<Finding[]> {
  await builtEntry('engine/index.ts');
  await using home = await newHome();
  const directory = await temporaryDirectory();
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', driver, home.path, directory, act, String(parts), String(part)],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-4000);
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const findings: Finding[] = [];
  for await (const line of createInterface({ input: child.stdout })) findings.push(JSON.parse(line));
  const code = await ended;
  if (code !== 0) throw new Error(`the engine of ${act} ended with ${code}: ${words}`);
  return findings;
}

it.each(Object.keys(acts))(
  '%s lives through every refusal of its host',
  { timeout: limitMs },
  async (act) => {
    const findings = await refused(act);
    const failed = findings.filter(({ outcome }) => outcome !== 'done').length;
    process.stdout.write(`${act}: ${findings.length} refusals, ${failed} of them failed it\n`);
    expect(findings.length).toBeGreaterThan(0);
    expect(findings.filter(({ problems }) => problems.length > 0)).toEqual([]);
  },
);
