import { createCommand } from '../command.js';
import { printOne } from '../listing.js';
import { format } from '../specs.js';
import { packageVersion } from '../version.js';

export const info = createCommand({
  name: 'info',
  summary: 'show versions, and where everything is kept',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { installation } = await import('../../home/installation.js');
    const found = await installation(context.connection.home);
    await printOne(context, format, { version: packageVersion(), ...found }, (it) => ({ ...it }));
  },
});
