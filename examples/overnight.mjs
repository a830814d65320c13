// Paused overnight: in the evening the memory of a box goes to disk, in the morning its programs go on where they were.
// Run it: node examples/overnight.mjs
import { Cryobox } from 'cryobox';

const name = `overnight-${process.pid}`;

// The evening: something runs, and has state that is nowhere but in memory.
const evening = await Cryobox.local();
const box = await evening.create({ image: 'debian-python', name, detach: true });
const counter = await box.startExec('n=0; while read x; do n=$((n+1)); echo $n; done', { stdin: true });
const counts = counter.stdout.lines();
for (let step = 0; step < 3; step += 1) {
  await counter.stdin.write('next\n');
  console.log('evening:', (await counts.next()).value);
}
const { id } = counter;
await counter.detach();
await box.pause();
console.log('at night:', (await box.info()).status);
await evening.close();

// The morning, in a program of its own: the same process, the same count.
const morning = await Cryobox.local();
const again = await morning.get(name);
try {
  await again.resume();
  const same = await again.executions.attach(id, { stdin: true });
  await same.stdin.write('next\n');
  await same.stdin.end();
  let last = '';
  for await (const line of same.stdout.lines()) last = line;
  console.log('morning:', last);
} finally {
  await again.remove({ force: true });
  await morning.close();
}
