import { z } from 'zod';
import { type Tool, tool } from '../tool.js';
import { box } from './inputs.js';

/** What makes a port of a box reachable on this host; for conversations of programs of this host. */
export const portTool: Tool = tool({
  name: 'publish_port',
  title: 'Publish a port',
  description:
    'Makes a TCP port of the box reachable on the loopback of the host while this conversation lasts.',
  scope: 'box:exec',
  effect: 'change',
  idempotent: true,
  input: { port: z.number().int().min(1).max(65_535), box },
  async run({ port, box }, { conversation, signal }) {
    const where = await conversation.existingBox(box, { signal });
    const hostPort = await conversation.ports.publish(where, port);
    const url = `http://127.0.0.1:${hostPort}`;
    return { text: `Port ${port} is at ${url}`, data: { port, hostPort, url } };
  },
});
