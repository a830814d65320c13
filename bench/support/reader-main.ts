/** Commands that write without end, and a client that reads all they write, in a process of its own. */
import { connectRuntime } from '../../src/remote/index.js';

const [url = '', apiKey = '', boxId = '', count = '1'] = process.argv.slice(2);
await using runtime = connectRuntime({ url, apiKey });
const box = await runtime.get(boxId);
if (!box) throw new Error(`no box ${boxId}`);
const executions = await Promise.all(Array.from({ length: Number(count) }, () => box.startExec(['yes'])));
process.once('disconnect', async () => {
  await Promise.allSettled(executions.map((execution) => execution.kill()));
  process.exit(0);
});

let bytes = 0;
const readers = executions.map(async ({ stdout }) => {
  for await (const chunk of stdout) {
    if (bytes === 0) process.send?.('streaming');
    bytes += chunk.length;
  }
});
await Promise.allSettled(readers);
