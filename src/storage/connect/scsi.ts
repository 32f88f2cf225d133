/** SCSI devices of iSCSI sessions, as sysfs has them. */
import { existsSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isNodeErrno } from '../../kernel/errno.ts';
import { attribute, entries, writeAttribute } from './sysfs.ts';

export type ScsiDevice = {
  /** `2:0:0:1`: host, channel, target, LUN. */
  readonly address: string;
  /** `/dev/sdb` */
  readonly path: string;
  /** Its directory in sysfs. */
  readonly dir: string;
};
export type Session = { readonly name: string; readonly host: string; readonly dir: string };

/** The session at this portal of this target. */
export function findSession(sysRoot: string, { address, iqn }: { address: string; iqn: string }): Session | undefined {
  const classDir = join(sysRoot, 'class/iscsi_session');
  for (const name of entries(classDir)) {
    if (attribute(classDir, name, 'targetname') !== iqn) continue;
    const dir = realDirectory(join(classDir, name, 'device'));
    if (dir === undefined || !portalsOf(sysRoot, dir).includes(address)) continue;
    const host = /\/host(\d+)\//.exec(dir)?.[1];
    if (host !== undefined) return { name, host, dir };
  }
  return undefined;
}

/** As we asked for it (`persistent_address`), not where a target has redirected us to. */
function portalsOf(sysRoot: string, sessionDir: string): readonly string[] {
  return entries(sessionDir)
    .filter(name => name.startsWith('connection'))
    .map(name => {
      const dir = join(sysRoot, 'class/iscsi_connection', name);
      const host = attribute(dir, 'persistent_address') ?? '';
      return `${host.includes(':') ? `[${host}]` : host}:${attribute(dir, 'persistent_port') ?? ''}`;
    });
}

/** All SCSI devices of a session that are block devices. */
export function devicesOf(session: Session): readonly ScsiDevice[] {
  return entries(session.dir)
    .filter(name => name.startsWith('target'))
    .flatMap(target =>
      entries(session.dir, target).map(address => ({ address, dir: join(session.dir, target, address) })),
    )
    .flatMap(({ address, dir }) => {
      const [name] = /^\d+:\d+:\d+:\d+$/.test(address) ? entries(dir, 'block') : [];
      return name === undefined ? [] : [{ address, dir, path: `/dev/${name}` }];
    });
}

export function deviceOfLun(session: Session, lun: string): ScsiDevice | undefined {
  return devicesOf(session).find(device => device.address.endsWith(`:${lun}`));
}

/** Asks the target about this LUN alone. */
export async function scan(sysRoot: string, session: Session, lun: string): Promise<void> {
  await writeAttribute(`- - ${lun}`, sysRoot, 'class/scsi_host', `host${session.host}`, 'scan');
}

/** Asks the device again what it is and how large. */
export async function rescanDevice({ dir }: ScsiDevice): Promise<void> {
  await writeAttribute('1', dir, 'rescan');
}

export async function removeDevice({ dir }: ScsiDevice): Promise<void> {
  try {
    await writeAttribute('1', dir, 'delete');
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

/** The name that the target itself gives the unit, world-wide; the same through every path. Of one that has none, undefined. */
export function identity({ dir }: ScsiDevice): string | undefined {
  return attribute(dir, 'wwid') || undefined;
}

export function isRunning({ dir }: ScsiDevice): boolean {
  return attribute(dir, 'state') === 'running';
}

function realDirectory(path: string): string | undefined {
  return existsSync(path) ? join(realpathSync(path), '') : undefined;
}

export const nameOf = ({ path }: ScsiDevice): string => basename(path);
