import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { cliEnv, cliPath } from '../support/cli.js';

/** What a tool answered. */
export interface Answer {
  readonly failed: boolean;
  readonly text: string;
  readonly data: Record<string, unknown>;
}

/** The official client, connected. */
export class McpClient implements AsyncDisposable {
  readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  static async connect(transport: Transport): Promise<McpClient> {
    const client = new Client({ name: 'test', version: '1' });
    await client.connect(transport);
    return new McpClient(client);
  }

  /** To the command line, over a home, as a client's configuration starts it. */
  static async overStdio(home: string, ...args: string[]): Promise<McpClient> {
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [cliPath, 'mcp', ...args],
      env: { PATH: process.env['PATH'] ?? '', ...cliEnv(home) },
      stderr: 'ignore',
    });
    return await McpClient.connect(transport);
  }

  async tools(): Promise<string[]> {
    return (await this.client.listTools()).tools.map(({ name }) => name);
  }

  async call(
    name: string,
    input: Record<string, unknown> = {},
    options: { signal?: AbortSignal; onprogress?: (progress: { progress: number }) => void } = {},
  ): Promise<Answer> {
    const answer = await this.client.callTool({ name, arguments: input }, undefined, options);
    const [content] = answer.content as { type: string; text: string }[];
    return {
      failed: answer.isError === true,
      text: content?.text ?? '',
      data: (answer.structuredContent ?? {}) as Record<string, unknown>,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}
