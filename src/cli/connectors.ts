/** Cinder's volumes and this host, as each sees the other. Loaded when it is first asked for. */
import type { Config } from '../config/schema.ts';

type Connectors = {
  readonly read: (
    info: unknown,
    encryption?: unknown,
  ) => Promise<ReturnType<typeof import('../storage/connect/info.ts').readConnection>>;
  readonly properties: () => ReturnType<typeof import('../storage/connect/properties.ts').connectorProperties>;
};

export function connectorsOf({ host, volumes: { multipath }, nova: { address } }: Config): Connectors {
  return {
    read: async (info, encryption) => {
      const { readConnection } = await import('../storage/connect/info.ts');
      return readConnection(info, { encryption });
    },
    properties: async () => {
      const { connectorProperties } = await import('../storage/connect/properties.ts');
      return await connectorProperties({ host, multipath, ...(address !== null && { ip: address }) });
    },
  };
}
