// One served home in a process of its own, which the soak kills: node engine.mjs '{"home", "port"}'.
import { serveHttp } from '../../dist/home/serve-http.js';

const { home, port } = JSON.parse(process.argv[2]);
const served = await serveHttp({ home, listen: { port }, poolSize: 1, poolIdleMs: 2000 });
process.stdout.write(`${served.address.url}\n`);
process.once('SIGTERM', async () => {
  await served.close();
});
