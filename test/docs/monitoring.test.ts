import { readFileSync } from 'node:fs';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { ServerMetrics } from '../../src/server/http/metrics.js';

const page = readFileSync('docs/monitoring.md', 'utf8');
const dashboard = readFileSync('docs/monitoring/grafana.json', 'utf8');
const rules = readFileSync('docs/monitoring/alerts.yml', 'utf8');

/** What a server says that has had one request. */
async function text(): Promise<string> {
  const metrics = new ServerMetrics();
  metrics.request('createBox', 201, 300);
  metrics.stages('createBox', { total: 300 });
  return await metrics.render({
    runningBoxes: 1,
    hotMachines: 0,
    boxesCreatedTotal: 1,
    boxesFailedTotal: 0,
    boxesStoppedTotal: 0,
    commandsExecutedTotal: 1,
    execErrorsTotal: 0,
    uses: [{ scope: 'host', resource: 'freeDiskMiB', used: 2, limit: 1 }],
  });
}

const namesIn = (source: string): Set<string> =>
  new Set([...source.matchAll(/cryobox_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, '')));

it('what a server counts is well formed, and told on the page, whole', async () => {
  const said = await text();
  await execa('promtool', ['check', 'metrics'], { input: said, timeout: 30_000 });
  const names = [...said.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name);
  expect([...namesIn(page)].sort()).toEqual(names.sort());
});

it('alerts and dashboard use what is counted, and each alert is on the page', async () => {
  const counted = await text();
  for (const name of [...namesIn(dashboard), ...namesIn(rules)]) expect(counted).toContain(`# TYPE ${name} `);
  const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  expect([...page.matchAll(/^\| `(Cryobox\w+)`/gm)].map(([, name]) => name)).toEqual(alerts);
});

it('alerts are raised by what they are for, and by nothing else', async () => {
  await execa('promtool', ['check', 'rules', 'docs/monitoring/alerts.yml'], { timeout: 30_000 });
  await execa('promtool', ['test', 'rules', 'docs/monitoring/alerts.test.yml'], { timeout: 30_000 });
});
