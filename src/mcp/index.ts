/**
 * Tools for agents: a runtime as a server of the Model Context Protocol (revision 2025-06-18 and those before that the SDK
 * speaks). One server is one conversation, with a box of its own.
 */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { packageVersion } from '../base/version.js';
import { Conversation } from './conversation.js';
import { type McpOptions, withDefaults } from './options.js';
import { addResources } from './resources.js';
import { addTool } from './tool.js';
import { boxTools } from './tools/boxes.js';
import { commandTools } from './tools/commands.js';
import { fileTools } from './tools/files.js';
import { portTool } from './tools/ports.js';
import { stateTools } from './tools/states.js';

export type { McpOptions, ToolScope } from './options.js';

/** A conversation, to be connected to its client by a transport of the SDK. */
export interface McpConversation {
  readonly server: McpServer;
  /** Ends the connection, and what the conversation holds open. Boxes stay. */
  close(): Promise<void>;
}

const instructions =
  'Boxes are small virtual machines to run code in. Commands run as root unless told otherwise. A box keeps its files, and its running programs, between calls. Take a snapshot before something risky and roll back when it went wrong; fork to try several ways at once.';

/** Opens a conversation over a runtime, which stays open when it is closed. */
export function openConversation(options: McpOptions): McpConversation {
  const conversation = new Conversation(withDefaults(options));
  const { readOnly, scopes, publishPorts } = conversation.settings;
  const server = new McpServer({ name: 'cryobox', version: packageVersion() }, { instructions });
  const all = [
    ...boxTools,
    ...commandTools,
    ...fileTools,
    ...stateTools,
    ...(publishPorts ? [portTool] : []),
  ];
  for (const tool of all) {
    if (readOnly && tool.effect !== 'read') continue;
    if (scopes.includes(tool.scope)) addTool(server, conversation, tool);
  }
  if (scopes.includes('box:read')) addResources(server, conversation);
  return {
    server,
    async close() {
      await conversation.close();
      await server.close();
    },
  };
}
