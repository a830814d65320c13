/** A server of a home in a process of its own, as `cryobox serve` is one; its parent asks what it uses. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ApiKeys } from '../../src/home/keys.js';
import { serveHttp } from '../../src/home/serve-http.js';
import type { FromServer } from './server-process.js';

const home = process.argv[2] ?? '';
const tell = (message: FromServer): void => {
  process.send?.(message);
};

/** Bytes of objects that are in use. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}

await using keys = await ApiKeys.open(home);
const { key } = await keys.create();
const served = await serveHttp({ home, poolSize: 0, listen: { port: 0 } });
process.on('message', (message) => {
  if (message !== 'usage') return;
  const { user, system } = process.cpuUsage();
  tell({ type: 'usage', heapBytes: heapInUse(), cpuMs: (user + system) / 1000 });
});
process.once('disconnect', async () => {
  await served.close().catch(() => undefined);
  process.exit(0);
});
tell({ type: 'ready', url: served.address.url, apiKey: key });
