import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../src/engine/index.js';
import { seedHome } from './home.js';
import { writeTinyImage } from './tiny-image.js';

/** Makes what all tests share: a golden machine of the default shape and two images with their base disks. */
export default async function setup(): Promise<void> {
  await using engine = await Engine.open({ home: seedHome, poolSize: 0 });
  const runtime = engine.runtime();
  if (!(await runtime.images.get('debian-python'))) {
    await runtime.images.build('debian-python', { fromDebian: 'bookworm', packages: ['python3'] });
  }
  if (!(await runtime.images.get('tiny'))) {
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-tiny-'));
    await writeTinyImage(directory);
    await runtime.images.import(directory, { reference: 'tiny' });
    await rm(directory, { recursive: true });
  }
  for (const image of ['tiny', 'debian-python']) {
    await using box = await runtime.create({ image });
    await box.exec(['true']);
  }
}
