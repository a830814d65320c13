import type { SecretInfo } from '../../api/index.js';
import { createCommand } from '../command.js';
import { printListing } from '../listing.js';
import { parseSecret } from '../secret-values.js';
import { format, many, required } from '../specs.js';
import { requireBox } from '../targets.js';

export const secret = createCommand({
  name: 'secret',
  summary: 'list, set or remove secrets that a box uses and never has',
  args: { box: required('box', 'name or id') },
  options: {
    set: many(
      '--set <NAME[=FILE][@host,...]>',
      'sets one to what FILE holds, or our variable NAME; one that is there keeps its hosts',
      parseSecret,
    ),
    rm: many('--rm <name>', 'removes one', (name) => name),
    format,
  },
  async handler(context, { box: name }, { set, rm, format }) {
    const { signal } = context;
    const box = await requireBox(context, name);
    for (const secret of rm) await box.secrets.remove(secret, { signal });
    for (const { name: secret, ...change } of set) await box.secrets.set(secret, { ...change, signal });
    await printListing(context, format, await box.secrets.list({ signal }), [
      { header: 'NAME', cell: (it: SecretInfo) => it.name },
      { header: 'HOSTS', cell: (it) => it.hosts.join(', ') },
      { header: 'PLACEHOLDER', cell: (it) => it.placeholder },
      { header: 'VALUE', cell: (it) => (it.hasValue ? 'kept' : 'lost: set it again') },
    ]);
  },
});
