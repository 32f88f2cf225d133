/** The cloud that the configuration names, ready to be asked. */
import type { Log } from '../log/log.ts';
import { type Environment, findCloud } from './cloud.ts';
import { CloudSession } from './session.ts';

export type OpenstackConfig = { readonly cloud: string | null; readonly serviceCloud: string | null };

/** Asks nothing yet. The caller owns it. @throws SV_CONFIG */
export function openCloud(
  config: OpenstackConfig,
  options: { readonly env?: Environment; readonly log?: Log | undefined } = {},
): CloudSession {
  const { env = process.env, log } = options;
  const cloud = findCloud({ env, cloud: config.cloud ?? undefined });
  const service = config.serviceCloud === null ? undefined : findCloud({ env, cloud: config.serviceCloud });
  return new CloudSession(cloud, { env, log, service });
}
