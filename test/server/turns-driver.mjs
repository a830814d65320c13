// A served home in a process of its own that measures its turns: how much processor its event loop used between two ticks
// of a timer. Processor time, because a busy host makes everybody wait. Asked by messages: 'begin', then 'end'.
import { readFileSync } from 'node:fs';
import { serveHttp } from '../../dist/home/serve-http.js';

const tickMs = 2;
const { home } = JSON.parse(process.argv[2]);
const served = await serveHttp({ home, listen: { port: 0 }, poolSize: 0 });

/** Processor time of the thread of the event loop: proc(5), schedstat. */
const usedMs = () =>
  Number(readFileSync(`/proc/${process.pid}/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;
let turns = [];
let last = usedMs();
setInterval(() => {
  const now = usedMs();
  turns.push(now - last);
  last = now;
}, tickMs);

process.on('message', (asked) => {
  if (asked === 'begin') {
    turns = [];
    process.send({});
    return;
  }
  process.send({ longestMs: Math.max(0, ...turns) });
});
process.send({ url: served.address.url });
process.once('SIGTERM', async () => {
  await served.close();
  process.exit(0);
});
