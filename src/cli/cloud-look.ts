import type { CloudLook } from '../doctor/nova.ts';
import type { LazyCloud } from './lazy-cloud.ts';

const TIMEOUT_MS = 10_000;

/** For `doctor`: the cloud as the agent would use it. */
export function cloudLook(cloud: LazyCloud): CloudLook {
  return {
    isConfigured: () => cloud.isConfigured(),
    ask: async (service, signal) => {
      const path = service === 'image' ? '/images' : '/volumes';
      const session = await cloud.session();
      await session.request(service, { method: 'GET', path, query: { limit: '1' }, timeoutMs: TIMEOUT_MS }, signal);
    },
  };
}
