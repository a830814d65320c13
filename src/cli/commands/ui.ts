import { createCommand } from '../command.js';
import { processLogger } from '../logger.js';
import { value } from '../specs.js';
import { parseCount } from '../values.js';

export const ui = createCommand({
  name: 'ui',
  summary: 'show the boxes in a browser: prints a link that lets one browser of this host in, until Ctrl-C',
  args: {},
  options: { port: value('-p, --port <port>', 'port (default: a free one)', parseCount) },
  async handler(context, _, { port }) {
    const { serveUi } = await import('../../home/serve-ui.js');
    await using served = await serveUi({
      runtime: await context.runtime(),
      port,
      logger: await processLogger(),
    });
    await context.stdout.line(served.link);
    await context.interrupts.wait();
  },
});
