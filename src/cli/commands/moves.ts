import { createCommand } from '../command.js';
import { required, text } from '../specs.js';
import { requireBox } from '../targets.js';

export const release = createCommand({
  name: 'release',
  summary: 'take a box out of its home, for another home to adopt, and print its id',
  args: { box: required('box', 'name or id') },
  options: {},
  async handler(context, args) {
    const box = await requireBox(context, args.box);
    await box.release({ signal: context.signal });
    await context.stdout.line(box.id);
  },
});

export const adopt = createCommand({
  name: 'adopt',
  summary: 'bring a box that its home has released into this one, and print its id',
  args: {
    store: required(
      'store',
      'where its home is replicated to: a directory or s3://BUCKET/PREFIX?endpoint=URL',
    ),
    box: required('box', 'name or id'),
  },
  options: { name: text('--name <name>', 'its name here (default: the one it had)') },
  async handler(context, { store, box }, { name }) {
    const runtime = await context.runtime();
    const adopted = await runtime.adopt(store, { box, name, signal: context.signal });
    await context.stdout.line(adopted.id);
  },
});
