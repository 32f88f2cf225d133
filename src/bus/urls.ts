/** Which broker is for what. Loads nothing: asked before it is known whether there is a bus. */
import type { Config } from '../config/schema.ts';

/** Where results are told; undefined: nowhere. */
export function tellUrl({ bus }: Config): string | undefined {
  return bus.url ?? bus.listen[0];
}

/** Where remote calls come from; undefined: there are none. */
export function rpcUrl(config: Config): string | undefined {
  return config.rpc.enabled ? (config.rpc.url ?? tellUrl(config)) : undefined;
}
