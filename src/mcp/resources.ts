import { type McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import { BoundedOutput, collectBounded } from '../base/bounded-output.js';
import type { Conversation } from './conversation.js';
import { mcpLimits } from './options.js';

const one = (value: string | readonly string[] | undefined): string => String(value ?? '');

/** Files and consoles of boxes as resources: what a client shows beside the conversation. */
export function addResources(server: McpServer, conversation: Conversation): void {
  server.registerResource(
    'file',
    new ResourceTemplate('cryobox://{box}/files/{+path}', { list: undefined }),
    { title: 'File of a box', description: `At most ${mcpLimits.fileBytes} bytes are shown.` },
    async (uri, { box, path }, { signal }) => {
      const where = await conversation.existingBox(one(box), { signal });
      const output = new BoundedOutput(mcpLimits.fileBytes);
      await collectBounded(await where.files.readStream(`/${one(path)}`, { signal }), output);
      return { contents: [{ uri: uri.href, text: output.kept().text }] };
    },
  );
  server.registerResource(
    'console',
    new ResourceTemplate('cryobox://{box}/console', { list: undefined }),
    { title: 'Console of a box', description: 'The last messages of its kernel.', mimeType: 'text/plain' },
    async (uri, { box }, { signal }) => {
      const where = await conversation.existingBox(one(box), { signal });
      const output = new BoundedOutput(mcpLimits.fileBytes);
      output.add(Buffer.from(await where.consoleLog({ signal })));
      return { contents: [{ uri: uri.href, mimeType: 'text/plain', text: output.kept().text }] };
    },
  );
}
