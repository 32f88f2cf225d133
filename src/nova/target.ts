/**
 * Where in the container a volume goes. Nova's device name says nothing to a container, so it comes from what operator and user wrote;
 * the first that is there, and the engine's rules of targets apply to all of it:
 *   1. server metadata    shiftvol:path:<volume id>, or shiftvol_path_<volume id>
 *   2. server metadata    shiftvol:path, or shiftvol_path
 *   3. flavor extra spec  shiftvol:path
 *   4. volume metadata    shiftvol:path, or shiftvol_path (where a cloud is configured)
 *   5. nova.default_target in plugin.yaml
 * {volume_id}, {instance_uuid} and {instance_name} may stand in all of them.
 */
import { requireTarget } from '../engine/target.ts';
import { explain } from '../errors.ts';
import type { NovaInstance } from './model.ts';
import type { Nova } from './ports.ts';

const KEYS = ['shiftvol:path', 'shiftvol_path'] as const;

/** @throws SV_TARGET_INVALID */
export async function targetOf(
  nova: Pick<Nova, 'config' | 'labels' | 'log'>,
  instance: NovaInstance,
  volumeId: string,
  signal: AbortSignal,
): Promise<string> {
  const written =
    ofServer(instance.metadata, volumeId) ??
    instance.flavor?.extraSpecs[KEYS[0]] ??
    (await ofVolume(nova, volumeId, signal)) ??
    nova.config.defaultTarget;
  const filled = written
    .replaceAll('{volume_id}', volumeId)
    .replaceAll('{instance_uuid}', instance.uuid)
    .replaceAll('{instance_name}', instance.name);
  return requireTarget(filled);
}

function ofServer(metadata: NovaInstance['metadata'], volumeId: string): string | undefined {
  return metadata[`${KEYS[0]}:${volumeId}`] ?? metadata[`${KEYS[1]}_${volumeId}`] ?? ofLabels(metadata);
}

function ofLabels(labels: Readonly<Record<string, string>>): string | undefined {
  return KEYS.map(key => labels[key]).find(path => path !== undefined);
}

/** A volume is attached also while Cinder's API is away: it then goes where it goes without its metadata. */
async function ofVolume(
  { labels, log }: Pick<Nova, 'labels' | 'log'>,
  volumeId: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!labels) return undefined;
  try {
    return ofLabels(await labels.metadata(volumeId, signal));
  } catch (error) {
    signal.throwIfAborted();
    log.warn(`the metadata of volume "${volumeId}" could not be read, it goes to the default path: ${explain(error)}`);
    return undefined;
  }
}
