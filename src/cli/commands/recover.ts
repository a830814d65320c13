import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import { printJson, printListing } from '../listing.js';
import { formatBytes } from '../output/units.js';
import { format, many, required } from '../specs.js';

export const recover = createCommand({
  name: 'recover',
  summary: 'bring what a home replicated to an object store back into an empty home',
  args: {
    address: required('url', 'the store: a directory, file:///PATH or s3://BUCKET/PREFIX?endpoint=URL'),
  },
  options: {
    skip: many('--skip <id>', 'leave a box, template or image out, by id or name of the box', (id) => id),
    format,
  },
  async handler(context, { address }, { skip, format }) {
    if (context.connection.url !== undefined) {
      throw new CryoboxError('unsupported', 'a home is recovered on its own host, not over --url');
    }
    const { recoverHome, defaultHome } = await import('../../home/recover.js');
    const home = context.connection.home ?? defaultHome();
    const result = await context.withProgress((onProgress) =>
      recoverHome(home, address, { skip, onProgress, signal: context.signal }),
    );
    if (format === 'json') return await printJson(context, result);
    await printListing(context, format, result.boxes, [
      { header: 'ID', cell: (it) => it.id },
      { header: 'NAME', cell: (it) => it.name ?? '' },
      { header: 'STATUS', cell: (it) => it.status },
    ]);
    const { boxes, templates, images, bytes } = result;
    await context.stderr.line(
      `${boxes.length} boxes, ${templates} templates, ${images} images, ${formatBytes(bytes)}; go on with: cryobox serve --replicate ${address}`,
    );
  },
});
