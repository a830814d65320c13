// The output of a command on a web page as it comes, by server-sent events.
// Run it: node examples/stream-to-page.mjs [--serve], and with --serve open the address it prints.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Cryobox } from 'cryobox';

const page = `<!doctype html><pre id="out"></pre><script>
const events = new EventSource('/output');
events.onmessage = ({ data }) => { out.textContent += JSON.parse(data) + '\\n'; };
events.addEventListener('end', () => events.close());
</script>`;
const line = 'for i in 1 2 3; do echo step $i; sleep 0.2; done; echo a warning >&2';

const runtime = await Cryobox.local();
const box = await runtime.create({ image: 'debian-python' });

const server = createServer(async (asked, answer) => {
  if (asked.url !== '/output') return answer.setHeader('content-type', 'text/html').end(page);
  answer.setHeader('content-type', 'text/event-stream');
  const execution = await box.startExec(line);
  // Who leaves the page wants no more of it.
  answer.once('close', () => execution.kill().catch(() => undefined));
  for await (const text of execution.all.lines()) answer.write(`data: ${JSON.stringify(text)}\n\n`);
  const { exitCode } = await execution.wait();
  answer.end(`event: end\ndata: ${exitCode}\n\n`);
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const address = `http://127.0.0.1:${server.address().port}`;

try {
  if (process.argv.includes('--serve')) {
    console.log(address);
    await once(process, 'SIGINT');
  } else {
    const answer = await fetch(`${address}/output`);
    process.stdout.write(await answer.text());
  }
} finally {
  server.closeAllConnections();
  server.close();
  await box.remove({ force: true });
  await runtime.close();
}
