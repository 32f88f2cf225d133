/** Every code that an error of shiftvol can have: what it is to programs, what it means, and what to do. The one source of deploy/ERRORS.md. */

/** Exit statuses of the command line, documented in README.md. */
export const EXIT = { done: 0, failed: 1, usage: 2, notFound: 3, conflict: 4, host: 5 } as const;
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

type CodeFacts = {
  readonly exit: ExitStatus;
  readonly http: number;
  readonly retry: boolean;
  readonly means: string;
  /** What helps in general, in Markdown; an error's own remedy is closer to it. */
  readonly todo: string;
};
const usage = (means: string, todo: string) => ({ exit: EXIT.usage, http: 400, retry: false, means, todo }) as const;
const notFound = (means: string, todo: string) =>
  ({ exit: EXIT.notFound, http: 404, retry: false, means, todo }) as const;
const conflict = (means: string, todo: string, retry = true) =>
  ({ exit: EXIT.conflict, http: 409, retry, means, todo }) as const;
const failed = (means: string, todo: string, retry = true) =>
  ({ exit: EXIT.failed, http: 500, retry, means, todo }) as const;
const host = (means: string, todo: string) => ({ exit: EXIT.host, http: 501, retry: false, means, todo }) as const;

/** Every code there is. A code is never reused for another meaning; README.md lists exactly these (a test compares). */
export const CODES = {
  SV_USAGE: usage('a command, option or argument is wrong', 'run the command with `--help`: it says what is accepted'),
  SV_CONFIG: usage(
    'the configuration is wrong; the text names file, line and key',
    'correct the key in the file and line that are named, or the variable; `shiftvol config check` says whether it is right, `config show` what is in effect',
  ),
  SV_MESSAGE: usage(
    'a bus message or API request does not have the required shape',
    'the sender has to change it: the text names the field; `shiftvol deadletter show` has the message',
  ),
  SV_IDMAP_SYNTAX: usage(
    'an idmap is not written in any form that is accepted',
    'write it in one of the forms that `shiftvol idmap check --help` lists',
  ),
  SV_IDMAP_INVALID: usage(
    'an idmap overlaps, overflows, maps a host id below 65536, leaves the instance’s range or has too many extents',
    'choose host ids within the instance’s own range; `shiftvol idmap list` shows whose is what',
  ),
  SV_TARGET_INVALID: usage(
    'the target path inside the container is not absolute or not normal',
    'give an absolute path without `//`, `.` and `..`',
  ),
  SV_IMAGE_REFUSED: usage(
    'an image is of a kind that is not accepted, or carries what could act on the host',
    'look at the image with the text in hand; repair or make it anew on a machine of its own (`fsck`, `mkfs`), or import it as a template',
  ),
  SV_CONNECTION_INFO: usage(
    'the connection_info of a volume has a kind or a value that is not accepted; the text names the field',
    'compare the storage service’s backend with what this host is set up for (`volumes` in plugin.yaml)',
  ),
  SV_CHECKSUM: usage(
    'the contents do not have the expected checksum',
    'get the file again; if it stays so, the checksum or the source is not the one that is meant',
  ),
  SV_OPENSTACK_REFUSED: usage(
    'an OpenStack service does not accept or permit what was asked; the text has its own words',
    'read the service’s own words: a quota, a policy, or a value that it does not take; give the user the role that it asks for',
  ),
  SV_INSTANCE_NOT_FOUND: notFound(
    'no instance of this name or uuid on this host',
    '`lxc list` (or `incus list`) says what is here: name, project, or another host',
  ),
  SV_TEMPLATE_NOT_FOUND: notFound(
    'no template of this name',
    '`shiftvol template list` shows what there is; bring it with `shiftvol template import`',
  ),
  SV_VOLUME_NOT_FOUND: notFound(
    'no such device or file',
    'look whether the device or file is there under this name; a volume of a service may come a moment later',
  ),
  SV_ATTACHMENT_NOT_FOUND: notFound(
    'nothing of ours is attached there',
    '`shiftvol list` shows what is attached, with its id and target',
  ),
  SV_OPENSTACK_NOT_FOUND: notFound(
    'OpenStack has no such image, volume, snapshot or attachment',
    'look for it with the `openstack` command as the same user: it may be another project’s',
  ),
  SV_POOL_NOT_FOUND: notFound('no pool is set up here', '`shiftvol pool create`, or name its directory in `pool_dir`'),
  SV_SNAPSHOT_NOT_FOUND: notFound('no saved snapshot of this name', '`shiftvol snapshot list` shows what is saved'),
  SV_BUSY: conflict(
    'a process or mount still uses it; the text names who',
    'end what the text names, or wait for it; `shiftvol detach --lazy` takes it away from under a process that you give up',
  ),
  SV_LOCKED: conflict(
    'another shiftvol works on this state directory',
    'ask the agent (without `--state-dir` of its own), or end the other shiftvol first',
  ),
  SV_TARGET_TAKEN: conflict(
    'something else is attached at this target',
    'detach what is there, or choose another target',
    false,
  ),
  SV_INSTANCE_EXISTS: conflict(
    'another instance of this name exists',
    'choose another name, or destroy the other one',
    false,
  ),
  SV_TEMPLATE_EXISTS: conflict(
    'a template of this name exists',
    'choose another name, or `shiftvol template remove` the other one',
    false,
  ),
  SV_TEMPLATE_IN_USE: conflict(
    'snapshots of this template exist',
    'destroy the attachments that the text names first',
    false,
  ),
  SV_SNAPSHOT_EXISTS: conflict(
    'a saved snapshot of this name exists',
    'choose another name, or `shiftvol snapshot remove` the other one',
    false,
  ),
  SV_POOL_EXISTS: conflict(
    'a pool exists here',
    'use it as it is; `shiftvol pool remove` takes away one that nothing uses',
    false,
  ),
  SV_VOLUME_IN_USE: conflict(
    'this device or file is mounted or attached elsewhere',
    'unmount or detach it where it is; two file systems on one device destroy it',
    false,
  ),
  SV_OPENSTACK_CONFLICT: conflict(
    'an OpenStack service does not permit it in the present state',
    'wait until the service is done with it, or bring it into the state that its words ask for',
    false,
  ),
  SV_RANGE_EXHAUSTED: conflict(
    'no free id range is left for an instance',
    'add ids to /etc/subuid and /etc/subgid, or release what is unused (`shiftvol idmap list`)',
    false,
  ),
  SV_RANGE_TAKEN: conflict(
    'the id range overlaps one that is in use',
    'choose another start, or none: the allocator finds a free range',
    false,
  ),
  SV_KERNEL: failed(
    'a system call failed; the text has its name, the errno and the object',
    'look up the errno in the call’s manual page; `dmesg` often has more; `shiftvol doctor` says what this kernel can do',
  ),
  SV_CONNECTION: failed(
    'a volume could not be brought to this host, or not be let go',
    'test the way to the storage from this host by hand (`iscsiadm`, `nvme`, `rbd`, `mount -t nfs`), then ask again',
  ),
  SV_MOUNT: failed(
    'the kernel refused to mount the file system; the text has the kernel’s own reason',
    'read the kernel’s reason: a file system that is damaged or too new for this kernel; check it (`xfs_repair -n`, `e2fsck -n`)',
    false,
  ),
  SV_GROW: failed(
    'the kernel refused to grow the file system; the text has the kernel’s own reason',
    'read the kernel’s reason; the volume has its old size, and nothing is lost',
    false,
  ),
  SV_RUNTIME: failed(
    'the container runtime refused or failed',
    'look at the runtime (`lxc info`, its log), then ask again',
  ),
  SV_BUS: failed(
    'the message broker refused or failed',
    '`shiftvol doctor` says which host of the URL does not answer or does not permit it; the agent connects again by itself',
  ),
  SV_OPENSTACK: failed(
    'an OpenStack service failed, or does not answer',
    'look whether the service is up; the agent tries again what may be tried again',
  ),
  SV_OPENSTACK_AUTH: failed(
    'Keystone does not accept the credentials, or a service the token',
    'correct clouds.yaml, secure.yaml or the OS_ variables; `openstack token issue` with the same ones says whether they are right',
    false,
  ),
  SV_AGENT: failed(
    'the agent of this host does not answer, or not as an agent does',
    'look at its log (`journalctl -u shiftvol`); restart it if it does not answer at all: mounts stay',
  ),
  SV_STORE: failed(
    'the journal cannot be read or written',
    'look at the disk of the state directory (full? read-only?); never delete the journal: it knows what is mounted',
  ),
  SV_TOOL: failed(
    'a helper program (mkfs, fsck, qemu-img, ...) failed',
    'read the program’s own words; `shiftvol doctor` says which are missing',
    false,
  ),
  SV_DOWNLOAD: failed(
    'a download failed',
    'look whether the source answers from this host (proxy, certificate); what was loaded is resumed',
  ),
  SV_NO_SPACE: failed(
    'the file system of the pool is full',
    'free space, or enlarge the pool; `shiftvol pool status` says what takes it',
  ),
  SV_TIMEOUT: failed('it took longer than allowed', 'ask again; if it stays so, what the text names hangs'),
  SV_CANCELLED: failed('it was interrupted, and undone', 'ask again, if it is still wanted'),
  SV_UNDO: failed(
    'undoing failed; the journal stays open and recover goes on later',
    'mend what the text names, then `shiftvol recover`; nothing below it was touched',
  ),
  SV_INTERNAL: failed(
    'a fault of shiftvol itself',
    'report it, with the output of `-v` and a `shiftvol support-bundle`',
    false,
  ),
  SV_HOST: host(
    'this host lacks something that is needed; the text says what',
    '`shiftvol doctor` says what is missing, `doctor --fix` sets up what it can',
  ),
  SV_RUNTIME_UNSUPPORTED: host(
    'the runtime or this instance cannot take a mapped volume',
    'the text says what the instance or runtime would have to be; `shiftvol doctor` looks at the runtime',
  ),
} as const satisfies Record<string, CodeFacts>;
export type Code = keyof typeof CODES;

/** Where a code is explained, in the package: `deploy/ERRORS.md#sv_busy`. */
export function helpUrl(code: Code): string {
  return `deploy/ERRORS.md#${code.toLowerCase()}`;
}
