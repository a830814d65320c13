// A served home in a process of its own, which a test kills: node serve-driver.mjs '{"home", "kill", "trace"}'.
import { planFaults } from '../../dist/base/faults.js';
import { serveHttp } from '../../dist/home/serve-http.js';

const { home, kill, trace } = JSON.parse(process.argv[2]);
const served = await serveHttp({ home, listen: { port: 0 }, poolSize: 0 });
planFaults({ kill, trace });
process.stdout.write(`${served.address.url}\n`);
process.once('SIGTERM', async () => {
  planFaults(undefined);
  await served.close();
});
