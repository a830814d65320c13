// A repository in, its test results out.
// Run it: node examples/repository.mjs [DIRECTORY]
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cryobox } from 'cryobox';

const work = await mkdtemp(join(tmpdir(), 'repository-'));
const repository = process.argv[2] ?? (await smallRepository(join(work, 'project')));

const runtime = await Cryobox.local();
const box = await runtime.create({ image: 'debian-python', workingDir: '/root' });
try {
  const copied = await box.files.copyIn(repository, '/root/project');
  console.log(`copied ${copied.entries} entries`);
  const result = await box.exec('python3 -m unittest -v > report.txt 2>&1', {
    cwd: '/root/project',
    timeoutMs: 60_000,
  });
  await box.files.copyOut('/root/project/report.txt', join(work, 'report.txt'));
  const report = await readFile(join(work, 'report.txt'), 'utf8');
  console.log(report.trim().split('\n').at(-1), '- exit code', result.exitCode);
} finally {
  await box.remove({ force: true });
  await runtime.close();
  await rm(work, { recursive: true });
}

async function smallRepository(directory) {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'sums.py'), 'def add(a, b):\n    return a + b\n');
  const test = ['import unittest', 'from sums import add', '', 'class Sums(unittest.TestCase):'];
  test.push('    def test_add(self):', '        self.assertEqual(add(2, 3), 5)', '');
  await writeFile(join(directory, 'test_sums.py'), test.join('\n'));
  return directory;
}
