import { randomUUID } from 'node:crypto';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { LRUCache } from 'lru-cache';
import { inBackground } from '../../base/in-background.js';
import { CryoboxError } from '../../errors.js';
import { type McpConversation, openConversation, type ToolScope } from '../../mcp/index.js';
import type { Principal } from '../http/auth.js';
import type { Call } from '../http/route.js';

interface Held {
  readonly principalId: string;
  readonly conversation: McpConversation;
  readonly transport: WebStandardStreamableHTTPServerTransport;
}

/** Conversations of a server at once; the one that was not used for longest gives way. Its box stays. */
const maxConversations = 256;
/** How long one that is not used is kept, in milliseconds. */
const idleMs = 3_600_000;

const toolScopes: readonly ToolScope[] = ['box:read', 'box:write', 'box:exec', 'box:delete'];

/** The conversations of the clients that speak the Model Context Protocol over HTTP. */
export class Conversations {
  readonly #held: LRUCache<string, Held>;

  /** Ends all when `closing` is aborted. */
  constructor({ closing, logger }: Pick<Call['parts'], 'closing' | 'logger'>) {
    this.#held = new LRUCache({
      max: maxConversations,
      ttl: idleMs,
      ttlAutopurge: true,
      updateAgeOnGet: true,
      dispose: ({ conversation }) => inBackground(conversation.close(), 'close a conversation', logger),
    });
    closing.addEventListener('abort', () => this.#held.clear(), { once: true });
  }

  /**
   * The transport of a request: of the conversation that its header names, which must be one of the same key, else of a new
   * one. Throws `not_found`.
   */
  async transportFor(call: Call): Promise<WebStandardStreamableHTTPServerTransport> {
    const id = call.headers['mcp-session-id'];
    if (id === undefined) return await this.#open(call);
    const held = this.#held.get(String(id));
    if (held?.principalId === call.principal.id) return held.transport;
    throw new CryoboxError('not_found', 'There is no such conversation', {
      hint: 'Begin a new one with an initialize request.',
    });
  }

  async #open(call: Call): Promise<WebStandardStreamableHTTPServerTransport> {
    const { principal, runtime, parts } = call;
    const conversation = openConversation({
      runtime: async () => runtime,
      scopes: scopesOf(principal),
      shown: (json) => parts.errors.shown(json),
      logger: parts.logger,
    });
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => {
        this.#held.set(id, { principalId: principal.id, conversation, transport });
      },
      onsessionclosed: (id) => {
        this.#held.delete(id);
      },
    });
    await conversation.server.connect(transport);
    return transport;
  }
}

function scopesOf({ scopes }: Principal): ToolScope[] {
  return toolScopes.filter((scope) => scopes.includes(scope));
}
