import { finished } from 'node:stream/promises';
import { createCommand } from '../command.js';
import { processLogger } from '../logger.js';
import { flag, text, value } from '../specs.js';
import { parseDurationSeconds, parseMemoryMiB, parseNetwork } from '../values.js';

export const mcp = createCommand({
  name: 'mcp',
  summary: 'offer boxes as tools to an agent, by the Model Context Protocol on the standard streams',
  args: {},
  options: {
    box: text('--box <box>', 'box of the conversation, made when it is not there (default: one of its own)'),
    image: text('--image <image>', 'image of boxes that are made without one (default: debian-python)'),
    network: value('--network <network>', 'outbound or none (default: outbound)', parseNetwork),
    memory: value('-m, --memory <size>', 'memory of new boxes, MiB or a size such as 1g', parseMemoryMiB),
    lifetime: value(
      '--lifetime <duration>',
      'boxes that were not used for that long are removed (default: 24h)',
      parseDurationSeconds,
    ),
    readOnly: flag('--read-only', 'only tools that change nothing'),
  },
  async handler(context, _, { box, image, network, memory, lifetime, readOnly }) {
    const { StdioServerTransport } = await import('@modelcontextprotocol/sdk/server/stdio.js');
    const { openConversation } = await import('../../mcp/index.js');
    const { stdin, stdout } = context.streams;
    const { server, close } = openConversation({
      runtime: () => context.runtime(),
      box,
      image,
      network: network === 'none' ? 'disabled' : 'enabled',
      memoryMiB: memory,
      lifetimeSeconds: lifetime,
      readOnly,
      publishPorts: true,
      logger: await processLogger(),
    });
    try {
      // A client that ends its side, breaks it or is killed ends the conversation; so does Ctrl-C.
      const gone = finished(stdin, { signal: context.signal, writable: false }).catch(() => undefined);
      await server.connect(new StdioServerTransport(stdin, stdout));
      await gone;
    } finally {
      await close();
    }
  },
});
