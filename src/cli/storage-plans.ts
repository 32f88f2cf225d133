/** The plans of `pool` and `template`, for `--dry-run`: what the storage would do, in its order. */
import { join } from 'node:path';
import type { PreviewStep } from '../engine/preview.ts';
import type { ImportRequest } from '../storage/import/request.ts';
import type { Layout } from '../storage/layout.ts';
import { planSteps } from './plan-table.ts';

type Pool = { readonly image: string; readonly poolDir: string; readonly sizeBytes: number };

export function poolCreation({ image, poolDir, sizeBytes }: Pool): readonly PreviewStep[] {
  return planSteps([
    ['image', 'open+ftruncate', `${image}.new ${sizeBytes}`],
    ['file system', 'mkfs.xfs', `${image}.new`],
    ['image', 'link', `${image}.new -> ${image}`],
    ['device', 'ioctl(LOOP_CONFIGURE)', image],
    ['mount', 'fsopen+fsconfig+fsmount', 'xfs rw,nodev,nosuid'],
    ['mount', 'move_mount', poolDir],
  ]);
}

export function poolGrowth({ image, poolDir, sizeBytes }: Pool): readonly PreviewStep[] {
  return planSteps([
    ['image', 'ftruncate', `${image} ${sizeBytes}`],
    ['device', 'ioctl(LOOP_SET_CAPACITY)', image],
    ['file system', 'xfs_growfs', poolDir],
  ]);
}

export function poolRemoval({ image, poolDir }: Omit<Pool, 'sizeBytes'>): readonly PreviewStep[] {
  return planSteps([
    ['mount', 'umount2', poolDir],
    ['image', 'unlink', image],
    ['mount', 'rmdir', poolDir],
  ]);
}

/** `source` as `planImport` tells it; what a URL holds is not known before it is there. */
export function templateImport(
  at: Layout,
  { name, from, fsType = 'ext4' }: ImportRequest,
  source: string,
): readonly PreviewStep[] {
  const staging = join(at.templates, `.import-${name}`);
  const [image, work] = [join(staging, 'image'), join(staging, 'work')];
  const making: Readonly<Record<string, readonly (readonly [string, string, string])[]>> = {
    raw: [['copy', 'fallocate+write', `${from} -> ${image}`]],
    qcow2: [['convert', 'qemu-img convert', `${from} -> ${image}`]],
  };
  const tree = [
    ['file system', `mkfs.${fsType}`, work],
    ['fill', 'tar', `${from} -> ${work}`],
    ['lay out', 'fallocate+write', `${work} -> ${image}`],
  ] as const;
  const url = [
    ['download', 'GET', `${from} -> ${join(staging, 'source')}`],
    ['make', 'as it turns out', `${join(staging, 'source')} -> ${image}`],
  ] as const;
  return planSteps([
    ['stage', 'mkdir', staging],
    ...(source === 'dir' || source === 'tar' ? tree : (making[source] ?? url)),
    ['check', 'fsck', image],
    ['seal', 'fchmod(0400)+ioctl(FS_IOC_SETFLAGS)', image],
    ['publish', 'rename', `${staging} -> ${at.templateDir(name)}`],
  ]);
}

export function templateRemoval(at: Layout, name: string): readonly PreviewStep[] {
  const going = join(at.templates, `.remove-${name}`);
  return planSteps([
    ['close', 'rmdir', at.snapshotDir(name)],
    ['remove', 'rename', `${at.templateDir(name)} -> ${going}`],
    ['remove', 'unlink+rmdir', going],
  ]);
}
