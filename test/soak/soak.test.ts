import { expect, it } from 'vitest';
import { soak } from './soak.js';

/** One minute of work, and what removing everything takes. */
const limitMs = 600_000;

it('loses and leaks nothing while three clients work and processes are killed', {
  timeout: limitMs,
}, async () => {
  const seed = Number(process.env.CRYOBOX_SEED || Date.now() % 1_000_000);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  say(`soak with CRYOBOX_SEED=${seed}`);
  const { operations, faults, lost, leaked, wrong } = await soak({ minutes: 1, seed });
  say(
    `${operations} operations done, ${faults} faults injected, ${lost.length} lost, ${leaked.length} leaked`,
  );
  expect({ lost, leaked, wrong }).toEqual({ lost: [], leaked: [], wrong: [] });
  expect(operations).toBeGreaterThan(0);
  expect(faults).toBeGreaterThan(0);
});
