import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<string>();

/** All that `work` asks of OpenStack is asked in the name of this request: services log it beside their own id. */
export function withRequestId<T>(id: string, work: () => T): T {
  return current.run(id, work);
}

export function currentRequestId(): string | undefined {
  return current.getStore();
}

/** oslo.middleware takes no other form. */
export function asGlobalRequestId(id: string | undefined): string | undefined {
  return id !== undefined && /^req-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id) ? id : undefined;
}
