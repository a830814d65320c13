import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js';
import type { CallToolResult, ServerNotification, ServerRequest } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { Progress } from '../api/index.js';
import { inBackground } from '../base/in-background.js';
import { wrapHostError } from '../errors.js';
import type { Conversation } from './conversation.js';
import type { McpSettings, ToolScope } from './options.js';

/** What a call of a tool has. */
export interface ToolCall {
  readonly conversation: Conversation;
  /** Aborted when the client cancels the call or goes away. */
  readonly signal: AbortSignal;
  /** Tells how far it is, to a client that asked; `done` grows with each. */
  progress(done: number, message: string): void;
  /** Tells of a long operation of a runtime. */
  readonly onProgress: (progress: Progress) => void;
}

/** What a tool answers: text for the model, and the same as data. */
export interface ToolAnswer {
  readonly text: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A tool as data. */
export interface Tool<Input extends z.ZodRawShape = z.ZodRawShape> {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly scope: ToolScope;
  /** `read`: changes nothing. `destroy`: what it removes is gone. */
  readonly effect: 'read' | 'change' | 'destroy';
  /** Whether a second call with the same input changes nothing more. @default false */
  readonly idempotent?: boolean;
  readonly input: Input;
  readonly run: (input: z.infer<z.ZodObject<Input>>, call: ToolCall) => Promise<ToolAnswer>;
}

/** A tool with the types its schema gives. */
export function tool<Input extends z.ZodRawShape>(definition: Tool<Input>): Tool {
  // The schema of the tool checks what it gets, so the types may be forgotten here.
  return definition as unknown as Tool;
}

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;

function callOf(conversation: Conversation, { signal, _meta, sendNotification }: Extra): ToolCall {
  const progressToken = _meta?.progressToken;
  const progress = (done: number, message: string): void => {
    if (progressToken === undefined || signal.aborted) return;
    const told = sendNotification({
      method: 'notifications/progress',
      params: { progressToken, progress: done, message },
    });
    inBackground(told, 'tell the progress of a tool', conversation.settings.logger);
  };
  return {
    conversation,
    signal,
    progress,
    onProgress: ({ stage, doneBytes, item }) => progress(doneBytes, item ? `${stage} ${item}` : stage),
  };
}

/** A failure for a model: the code, what was wrong, and what to do next. */
function failureResult(thrown: unknown, { shown }: McpSettings): CallToolResult {
  const known = wrapHostError(thrown, 'The tool failed', 'internal');
  const { code, message, hint } = shown({ code: known.code, message: known.message, hint: known.hint });
  const text = hint ? `${code}: ${message}\n${hint}` : `${code}: ${message}`;
  return { isError: true, content: [{ type: 'text', text }] };
}

/** Puts a tool on a server. */
export function addTool(server: McpServer, conversation: Conversation, definition: Tool): void {
  const { name, title, description, input, effect, idempotent = false, run } = definition;
  const annotations = {
    title,
    readOnlyHint: effect === 'read',
    destructiveHint: effect === 'destroy',
    idempotentHint: effect === 'read' || idempotent,
    // Boxes are this host's; what a command in one reaches is its network's business.
    openWorldHint: false,
  };
  server.registerTool(
    name,
    { title, description, inputSchema: z.strictObject(input), annotations },
    async (values: unknown, extra: Extra): Promise<CallToolResult> => {
      try {
        const answer = await run(values as never, callOf(conversation, extra));
        return { content: [{ type: 'text', text: answer.text }], structuredContent: { ...answer.data } };
      } catch (error) {
        return failureResult(error, conversation.settings);
      }
    },
  );
}
