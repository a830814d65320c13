import { AsyncLocalStorage } from 'node:async_hooks';

const requests = new AsyncLocalStorage<string>();

/** Runs a task, and all that it begins, as work of a request: what is logged of it names the request. */
export function inRequest<T>(id: string, task: () => T): T {
  return requests.run(id, task);
}

/** Id of the request that is being served, if there is one. */
export function requestId(): string | undefined {
  return requests.getStore();
}
