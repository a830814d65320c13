import { type CreatedPreview, type Preview, previewToken } from '../../api/index.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { printListing, printOne } from '../listing.js';
import { formatAge } from '../output/units.js';
import { type Format, flag, format, many, optional, required } from '../specs.js';
import { requireBox } from '../targets.js';
import { parseCount } from '../values.js';

export const preview = createCommand({
  name: 'preview',
  summary: 'give a port of a box a web address of its own, list those it has, or end one',
  args: {
    box: required('box', 'name or id'),
    port: optional('port', 'port in the box: makes an address for it and prints it with its token'),
  },
  options: {
    public: flag('--public', 'for everybody who knows the address, without a token'),
    rm: many('--rm <id>', 'end a preview', (id) => id),
    format,
  },
  async handler(context, { box: name, port }, { public: isPublic, rm, format }) {
    const { signal } = context;
    const wanted = port === undefined ? undefined : parseCount(port);
    const box = await requireBox(context, name);
    for (const id of rm) await box.previews.remove(id, { signal });
    if (wanted !== undefined) {
      const access = isPublic ? 'public' : 'private';
      await printCreated(context, format, await box.previews.create({ port: wanted, access, signal }));
    } else if (rm.length === 0 || format !== 'table') {
      await printListing(context, format, await box.previews.list({ signal }), [
        { header: 'ID', cell: (it: Preview) => it.id },
        { header: 'PORT', cell: (it) => String(it.port) },
        { header: 'ACCESS', cell: (it) => it.access },
        { header: 'CREATED', cell: (it) => formatAge(it.createdAt) },
        { header: 'URL', cell: (it) => it.url ?? '' },
      ]);
    }
  },
});

async function printCreated(context: Context, format: Format, created: CreatedPreview): Promise<void> {
  const { id, url, token } = created;
  if (format !== 'table') return await printOne(context, format, created, () => ({}));
  if (url === null) {
    await context.stderr.line(
      'no server serves this home: begin `cryobox serve`, then `cryobox preview BOX` shows the address',
    );
  }
  const query = token === null ? '' : `?${previewToken}=${token}`;
  await context.stdout.line(`${url ?? id}${query}`);
}
