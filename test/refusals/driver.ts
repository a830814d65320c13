// One engine in a process of its own, whose host refuses: tsx driver.ts HOME DIRECTORY ACT PARTS PART. A line for each refusal.
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Box } from '../../src/api/index.js';
import { type Holdings, holdingsOf, lastingLeaks } from '../control/holdings.js';
import { acts, type Stage } from './acts.js';
import { install, type Mode, modes, refusing, tracing } from './refuse.js';

/** What one refusal led to. */
export interface Finding {
  readonly place: string;
  readonly mode: Mode;
  /** How often the place was refused. */
  readonly hits: number;
  /** `done`, or the code that the operation failed with. */
  readonly outcome: string;
  /** What must not be; empty where all is well. */
  readonly problems: readonly string[];
}

/** SQLite keeps a descriptor of a file open that two connections of one process have: the engine's, and that of this look. */
const lookedAt = /\/cryobox\.db$/;
/** No operation takes longer, unless it hangs. */
const hangMs = 120_000;

const [home = '', directory = '', name = '', parts = '1', part = '0'] = process.argv.slice(2);
const act = acts[name];
if (!act) throw new Error(`there is no act ${name}`);
await install();
const { Engine } = (await import(new URL('../../dist/engine/index.js', import.meta.url).href)) as {
  Engine: typeof import('../../src/engine/index.js').Engine;
};
/** What would have ended a program with the engine in it. */
const deaths: string[] = [];
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    deaths.push(`${event}: ${error instanceof Error ? error.stack : String(error)}`);
  });
}
const engine = await Engine.open({ home, poolSize: 0 });
const stage: Stage = { runtime: engine.runtime(), directory };

await clean();
// What is opened or made once, on first use, is there from here on.
await act.run(stage, await act.prepare(stage));
await clean();
const first = await act.prepare(stage);
const places = await tracing(async () => {
  await act.run(stage, first);
});
await clean();
const before = withoutLook(await holdingsOf(home, process.pid));
const cases = places.flatMap((place) => modes.map((mode) => ({ place, mode })));
for (const [index, { place, mode }] of cases.entries()) {
  if (index % Number(parts) !== Number(part) % Math.min(Number(parts), cases.length)) continue;
  process.stdout.write(`${JSON.stringify(await tried(place, mode, before))}\n`);
}
await engine.close();
process.exit(0);

function withoutLook(holdings: Holdings): Holdings {
  const looked = Object.keys(holdings.descriptors).filter((path) => lookedAt.test(path));
  const descriptors = looked.map((path) => [path, Number.POSITIVE_INFINITY] as const);
  return { ...holdings, descriptors: { ...holdings.descriptors, ...Object.fromEntries(descriptors) } };
}

async function tried(place: string, mode: Mode, before: Holdings): Promise<Finding> {
  const box = await act?.prepare(stage);
  const problems: string[] = [];
  let outcome = 'done';
  const hits = await refusing({ place, mode }, async () => {
    outcome = await outcomeOf(act?.run(stage, box), problems);
  });
  await settled(box, problems);
  // What was refused is allowed again: the same operation works, on what is there now or anew.
  await worksAgain(box, outcome, problems);
  await clean().catch((error: unknown) => problems.push(`what is left cannot be removed: ${told(error)}`));
  problems.push(...(await lastingLeaks(before, home, process.pid)).map((leak) => `leaked ${leak}`));
  problems.push(...deaths.splice(0));
  return { place, mode, hits, outcome, problems };
}

async function outcomeOf(running: Promise<unknown> | undefined, problems: string[]): Promise<string> {
  try {
    const hang = delay(hangMs, 'hangs' as const, { ref: false });
    if ((await Promise.race([running, hang])) === 'hangs') problems.push('it hangs');
    return 'done';
  } catch (error) {
    const { code } = error as { code?: string };
    const isOurs = (error as Error).name === 'CryoboxError' && code !== undefined;
    if (!isOurs || code === 'internal') problems.push(`not one of our errors: ${told(error)}`);
    return code ?? 'thrown';
  }
}

/** The box is in its old state or in its new one. */
async function settled(box: Box | undefined, problems: string[]): Promise<void> {
  if (!box || !act) return;
  const status = await stage.runtime.get(box.id).then(
    async (found) => (found ? (await found.info()).status : 'gone'),
    (error: unknown) => `unknown: ${told(error)}`,
  );
  if (!act.states.includes(status)) problems.push(`the box is ${status}`);
}

async function worksAgain(box: Box | undefined, outcome: string, problems: string[]): Promise<void> {
  try {
    if (box && (await stage.runtime.get(box.id))) {
      const { status } = await box.info();
      if (status !== 'running') await (status === 'paused' ? box.resume() : box.start());
      // What is written afterwards is there after the next start, whatever had become of the disks.
      await box.exec(['sh', '-c', 'echo again > /root/again; sync']);
      await box.stop();
      await box.start();
      const { stdout } = await box.exec(['cat', '/root/again']);
      if (stdout !== 'again\n') problems.push(`what was written is lost: ${JSON.stringify(stdout)}`);
    } else if (outcome !== 'done') await act?.run(stage, box);
  } catch (error) {
    problems.push(`the next operation fails: ${told(error)}`);
  }
}

async function clean(): Promise<void> {
  const { runtime } = stage;
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  for (const { name } of await runtime.templates.list()) await runtime.templates.remove(name);
  for (const { name } of await runtime.volumes.list()) await runtime.volumes.remove(name);
  for (const file of ['e.boxsnap', 'given.boxsnap']) await rm(`${directory}/${file}`, { force: true });
  await runtime.gc();
}

function told(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return `${code}: ${message}`;
}
