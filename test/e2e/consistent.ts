import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachmentView } from '../../src/http/view.ts';
import { loopsInUse } from '../../src/mount/loops.ts';
import { readMountinfo } from '../../src/mount/mountinfo.ts';
import type { World } from './world.ts';

/** What `list` says, against what the host has: mounts, loop devices, snapshot files, the containers' devices. */
export async function assertListIsTrue(world: World, list: readonly AttachmentView[]): Promise<void> {
  const unfinished = list.filter(a => a.state !== 'attached' && a.state !== 'detached');
  assert.deepEqual(
    unfinished.map(a => `${a.instance}:${a.target} ${a.state} ${a.error?.message}`),
    [],
  );
  const attached = list.filter(a => a.state === 'attached');
  const pool = join(world.poolDir, 'snapshots');

  const mounts = readMountinfo('/proc').filter(m => m.point.startsWith(`${world.runDir}/`));
  assert.deepEqual(mounts.map(m => m.point).toSorted(), attached.map(a => a.hostPath).toSorted(), 'mounts');
  for (const directory of ['volumes', 'roots'].map(name => join(world.runDir, name)))
    assert.deepEqual(
      readdirSync(directory)
        .map(name => join(directory, name))
        .toSorted(),
      attached
        .map(a => a.hostPath)
        .filter(path => path.startsWith(`${directory}/`))
        .toSorted(),
      'directories',
    );

  const isVolume = (path: string) => [pool, join(world.dir, 'mnt')].some(dir => path.startsWith(`${dir}/`));
  const loops = loopsInUse('/sys').filter(loop => isVolume(loop.backingFile));
  assert.deepEqual(
    loops.map(loop => loop.backingFile).toSorted(),
    attached.map(a => a.image).toSorted(),
    'loop devices',
  );

  const files = existsSync(pool)
    ? readdirSync(pool).flatMap(template => readdirSync(join(pool, template)).map(id => join(pool, template, id)))
    : [];
  assert.deepEqual(
    files.toSorted(),
    list
      .filter(a => a.source.kind === 'template')
      .map(a => a.image)
      .toSorted(),
    'snapshots',
  );

  const instances = await world.lxd.api.list('/1.0/instances?recursion=1&all-projects=true');
  const devices = instances.flatMap(i => {
    const { 'user.nova_uuid': uuid } = i['config'] as Record<string, string>;
    return Object.values(i['devices'] as Record<string, { path: string; source: string }>).map(
      d => `${uuid ?? i['name']} ${d.path} ${d.source}`,
    );
  });
  assert.deepEqual(
    devices.toSorted(),
    attached
      .filter(a => a.role === 'volume')
      .map(a => `${a.instance} ${a.target} ${a.hostPath}`)
      .toSorted(),
    'devices',
  );
}
