// Code of somebody else: no network, little memory, little time, little output. Nothing of it is left afterwards.
// Run it: node examples/untrusted.mjs
import { Cryobox } from 'cryobox';

const programs = {
  honest: 'print(sum(range(1000)))',
  'for ever': 'while True: pass',
  'talks without end': 'while True: print("spam" * 1000)',
  'calls home': 'import socket; socket.create_connection(("1.1.1.1", 80), timeout=5)',
  'deletes what it finds': 'import shutil; shutil.rmtree("/usr/share/python3"); print("gone")',
};
const mostOutput = 64 * 1024;

const runtime = await Cryobox.local();
const limits = { cpus: 1, memoryMiB: 256, network: { outbound: 'disabled' } };
const clean = await runtime.create({ image: 'debian-python', ...limits });
try {
  await clean.snapshot.create('clean', { memory: true });
  for (const [name, code] of Object.entries(programs)) {
    let written = '';
    const bounded = (text) => {
      written += text;
      if (written.length > mostOutput) throw new Error('too much output');
    };
    const result = await clean
      .exec(['python3', '-c', code], { timeoutMs: 10_000, onStdout: bounded, onStderr: bounded })
      .catch((error) => ({ refused: error.cause?.message ?? error.message }));
    const end = result.refused ?? (result.timedOut ? 'its time was over' : `exit code ${result.exitCode}`);
    const last = written.slice(0, 200).trim().split('\n').at(-1).slice(0, 60);
    console.log(`${name}: ${end}${last === '' ? '' : `, ${last}`}`);
    // The next one finds what this one found: the whole machine as it was.
    await clean.snapshot.restore('clean', { live: true });
  }
  console.log('still there:', (await clean.exec('ls /usr/share/python3')).exitCode === 0);
} finally {
  await clean.remove({ force: true });
  await runtime.close();
}
