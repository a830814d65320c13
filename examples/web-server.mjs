// A web server in a box that reaches nothing itself, on a port of this host.
// Run it: node examples/web-server.mjs
import { Cryobox } from 'cryobox';

const runtime = await Cryobox.local();
const box = await runtime.create({
  image: 'debian-python',
  network: { outbound: 'disabled' },
  ports: [{ guestPort: 8000 }],
});
try {
  await box.files.write('/srv/site/index.html', '<h1>Hello from a box</h1>\n');
  const server = await box.startExec(['python3', '-m', 'http.server', '8000', '--directory', '/srv/site']);
  await box.waitForPort(8000);

  // One that is free; `hostPort: 8080` names one.
  const [{ hostPort }] = await box.ports.list();
  const page = await fetch(`http://127.0.0.1:${hostPort}/`);
  console.log(page.status, (await page.text()).trim());
  console.log((await fetch(`http://127.0.0.1:${hostPort}/missing`)).status);
  await server.kill();
} finally {
  await box.remove({ force: true });
  await runtime.close();
}
