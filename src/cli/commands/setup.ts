import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { exitCodes } from '../failure.js';
import { flag, text } from '../specs.js';

/** The image that examples use: Debian with Python. */
const exampleImage = 'debian-python';

export const setup = createCommand({
  name: 'setup',
  summary: 'bring what this host lacks: QEMU and tools, the guest kernel, a first image',
  args: {},
  options: {
    image: text('--image <name>', `name of the image with Python that is made (default: ${exampleImage})`),
    withImage: flag('--no-image', 'make no image'),
    platform: text(
      '--platform <platform>',
      'bring only what boxes of another processor need, such as linux/arm64, and make no image',
    ),
  },
  async handler(context, _, { image = exampleImage, withImage, platform }) {
    if (context.connection.url !== undefined) {
      throw new CryoboxError('unsupported', 'setup is about this host, not a server', {
        hint: 'Run it on the host of the server.',
      });
    }
    const { setUpHost } = await import('../../home/installation.js');
    if (!(await setUpHost({ platform, signal: context.signal }))) return exitCodes.problemsFound;
    if (!withImage || platform !== undefined) return 0;
    await ensureImage(context, image);
    await context.stderr.line(`\nTry it:  npx cryobox run --rm ${image} -- python3 -c 'print(6*7)'`);
    return 0;
  },
});

async function ensureImage(context: Context, image: string): Promise<void> {
  const { images } = await context.runtime();
  if (await images.get(image, { signal: context.signal })) {
    await context.stderr.line(`ok   Image ${image}: up to date`);
    return;
  }
  await context.withProgress((onProgress) =>
    images.build(image, {
      recipe: 'python',
      signal: context.signal,
      onProgress,
    }),
  );
  await context.stderr.line(`ok   Image ${image}: built`);
}
