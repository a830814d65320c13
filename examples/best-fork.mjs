// One state, several continuations: fork a box with all it has in memory, let each try, keep the best.
// Run it: node examples/best-fork.mjs
import { Cryobox } from 'cryobox';

const attempts = [3, 17, 8];

const runtime = await Cryobox.local();
const box = await runtime.create({ image: 'debian-python' });
const forks = [];
try {
  // What is expensive is done once: here a file, as well a loaded model or a database that runs.
  await box.exec('seq 1 20 > /root/data', { check: true });

  for (const fork of await box.fork({ count: attempts.length })) {
    if ('error' in fork) throw fork.error;
    forks.push(fork.box);
  }
  const scores = await Promise.all(
    forks.map(async (fork, at) => {
      const line = `head -n ${attempts[at]} /root/data | tail -n 1 | tee /root/result`;
      return Number((await fork.exec(line, { check: true })).stdout);
    }),
  );
  const best = forks[scores.indexOf(Math.max(...scores))];
  console.log('scores:', scores.join(' '));

  for (const fork of forks) if (fork !== best) await fork.remove({ force: true });
  await best.rename(`best-${Date.now()}`);
  console.log('kept:', (await best.files.read('/root/result')).toString().trim());
  forks.splice(0, forks.length, best);
} finally {
  // A program that wants to go on with the best one keeps it.
  for (const each of [...forks, box]) await each.remove({ force: true }).catch(() => undefined);
  await runtime.close();
}
