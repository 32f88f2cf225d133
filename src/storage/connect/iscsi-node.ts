/** open-iscsi's records: how this host logs in at one portal of one target. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { runTool } from '../tool.ts';

export type Portal = { readonly address: string; readonly iqn: string };
export type Chap = { readonly user: string; readonly password: string };

/** Debian's place, and the one of open-iscsi's newer releases. */
const RECORDS = ['/etc/iscsi/nodes', '/var/lib/iscsi/nodes'] as const;
/** iscsiadm's exit statuses. @see iscsiadm(8) */
const SESSION_EXISTS = 15;
const NOTHING_FOUND = 21;
const NO_SESSION = 13;
/** iscsid answers when it is done, and what it has begun it does not leave for the next one who asks. */
const ANSWER_MS = 60_000;

/**
 * Logs in; a session that is there already is success. CHAP's password goes into the record, which root alone can read: iscsiadm takes
 * it only as an argument, which every process of the host could read.
 */
export async function login(portal: Portal, chap: Chap | undefined, signal: AbortSignal | undefined): Promise<void> {
  if (recordsOf(portal).length === 0) await iscsiadm(portal, ['--op', 'new'], [], signal);
  const settings = {
    // At a boot it is us who connect again, and only what is in use.
    'node.startup': 'manual',
    // Of all that the target shows only what is asked for becomes a device here.
    'node.session.scan': 'manual',
    // By default iscsid tries eight times, of 15 s each, also when nobody waits for it any more.
    'node.session.initial_login_retry_max': '2',
    ...(chap && {
      'node.session.auth.authmethod': 'CHAP',
      'node.session.auth.username': chap.user,
      'node.session.auth.password': chap.password,
    }),
  };
  for (const path of recordsOf(portal)) await changeRecord(path, settings);
  await iscsiadm(portal, ['--login'], [SESSION_EXISTS], signal);
}

/** Logs out and forgets the record. No session and no record are success. */
export async function logout(portal: Portal, signal: AbortSignal | undefined): Promise<void> {
  if (recordsOf(portal).length === 0) return;
  await iscsiadm(portal, ['--logout'], [NO_SESSION, NOTHING_FOUND], signal);
  await iscsiadm(portal, ['--op', 'delete'], [NOTHING_FOUND], signal);
}

async function iscsiadm(
  { address, iqn }: Portal,
  action: readonly string[],
  accept: readonly number[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const args = ['--mode', 'node', '--targetname', iqn, '--portal', address, ...action];
  const deadline = AbortSignal.any([AbortSignal.timeout(ANSWER_MS), ...(signal ? [signal] : [])]);
  await runTool('iscsiadm', args, { signal: deadline, accept: [0, ...accept] });
}

/** `TARGET/ADDRESS,PORT[,GROUP]`, a file or a directory of one file an interface. */
function recordsOf({ address, iqn }: Portal): readonly string[] {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  const begin = `${host},${port}`;
  return RECORDS.map(base => join(base, iqn))
    .filter(path => existsSync(path))
    .flatMap(target =>
      readdirSync(target)
        .filter(name => name === begin || name.startsWith(`${begin},`))
        .flatMap(name => {
          const path = join(target, name);
          return statSync(path).isDirectory() ? readdirSync(path).map(file => join(path, file)) : [path];
        }),
    );
}

async function changeRecord(path: string, settings: Readonly<Record<string, string>>): Promise<void> {
  const kept = (await readFile(path, 'utf8'))
    .split('\n')
    .filter(line => !Object.hasOwn(settings, line.split('=')[0]?.trim() ?? ''));
  const end = kept.findIndex(line => line.startsWith('# END RECORD'));
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  const text = end === -1 ? [...kept, ...lines, ''] : kept.toSpliced(end, 0, ...lines);
  // In its place: iscsiadm takes every other file there for a record too, and a torn one is made anew at the next login.
  try {
    await chmod(path, 0o600);
    await writeFile(path, text.join('\n'));
  } catch (error) {
    if (!isNodeErrno(error, 'EROFS', 'EACCES')) throw error;
    throw new ShiftvolError('SV_HOST', `Cannot change the iSCSI record "${path}"`, { cause: error });
  }
}
