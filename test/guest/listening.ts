import { AgentClient } from '../../src/guest/index.js';

/** Connects as soon as somebody listens on the socket. */
export async function connectWhenListening(socketPath: string, timeoutMs: number): Promise<AgentClient> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await AgentClient.connect({ socketPath, timeoutMs: deadline - Date.now() });
    } catch (error) {
      if (!/ENOENT|ECONNREFUSED/.test(String(error)) || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
