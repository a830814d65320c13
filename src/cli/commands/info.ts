import type { ResourceUse } from '../../api/index.js';
import { packageVersion } from '../../base/version.js';
import { createCommand } from '../command.js';
import { printOne } from '../listing.js';
import { format } from '../specs.js';

export const info = createCommand({
  name: 'info',
  summary: 'show versions, where everything is kept, and what is used of what may be',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { installation } = await import('../../home/installation.js');
    const found = await installation(context.connection.home);
    await printOne(context, format, { version: packageVersion(), ...found }, ({ uses, ...it }) => ({
      ...it,
      ...Object.fromEntries(uses.map((use) => [`${use.scope} ${use.resource}`, amountOf(use)])),
    }));
  },
});

function amountOf({ used, limit, resource }: ResourceUse): string {
  if (limit === null) return String(used);
  return resource === 'freeDiskMiB' ? `${used}, at least ${limit}` : `${used} of at most ${limit}`;
}
