/** The acts: each does one thing for real and shows what came of it. */
import { readFileSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bytes } from '../../src/cli/output.ts';
import { emit, type Heard } from '../rig/oslo/peers.ts';
import { writeTreeTar } from '../rig/tree.ts';
import { output, shiftvol } from './agent.ts';
import { chownEverything } from './chown.ts';
import type { Ear } from './ear.ts';
import { novaNote } from './nova.ts';
import { duration, type Row, type Show, times } from './show.ts';
import { IDS, type Stage, TARGET, TEMPLATE } from './stage.ts';

export const FILES = 50_000;
/** Of the template's files, in turn: root, the web server, a person. */
const OWNERS = [0, 33, 1000] as const;
/** Directory of the template that is shown. */
const SHOWN = 'd0000';

export type Scene = { readonly show: Show; readonly stage: Stage; readonly ear: Ear; readonly signal: AbortSignal };
export type Attached = {
  readonly id: string;
  readonly hostPath: string;
  readonly image: string;
  /** Until it was mounted on the host with the right owners, and until the container had it. */
  readonly ms: { readonly ready: number; readonly inside: number };
};

export async function makeTemplate(show: Show, { work, config }: Stage, signal: AbortSignal): Promise<void> {
  const tar = join(work, 'tree.tar');
  const began = performance.now();
  await writeTreeTar(tar, { files: FILES, owner: file => OWNERS[file % OWNERS.length] ?? 0 });
  show.done(`a tar of ${FILES.toLocaleString('en')} files, owners ${OWNERS.join(', ')}`, performance.now() - began);
  const importing = performance.now();
  await shiftvol(config, ['template', 'import', TEMPLATE, '--from', tar, '--fs', 'ext4'], signal);
  show.done(`shiftvol template import ${TEMPLATE} --from tree.tar --fs ext4`, performance.now() - importing);
  unlinkSync(tar);
  const facts = await templateFacts(config, signal);
  show.block(`template "${TEMPLATE}"`, [
    ['file system', `${facts.fsType} of ${bytes(facts.sizeBytes)} in ${facts.extents} extents, clean, read-only`],
    ['sha256', facts.sha256],
  ]);
}

type TemplateFacts = { fsType: string; sizeBytes: number; extents: number; sha256: string };
async function templateFacts(config: string, signal: AbortSignal): Promise<TemplateFacts> {
  return (await shiftvol(config, ['template', 'show', TEMPLATE], signal)) as TemplateFacts;
}

export async function startContainer(show: Show, { lxd }: Stage): Promise<number> {
  const began = performance.now();
  await lxd.launch(IDS.name, { 'user.nova_uuid': IDS.instance, 'security.idmap.isolated': 'true' });
  show.done(`container "${IDS.name}", unprivileged, with ids of its own`, performance.now() - began);
  const map = readFileSync(`/proc/${await lxd.initPid(IDS.name)}/uid_map`, 'utf8')
    .trim()
    .split(/\s+/);
  const base = Number(map[1]);
  show.block('its user ids', [
    ['in the container', `0 to ${Number(map[2]) - 1}`],
    ['on the host', `${base} to ${base + Number(map[2]) - 1}`],
  ]);
  return base;
}

/** Nova tells, the agent acts, and a Python listener hears what came of it. */
export async function attachByNova({ show, stage, ear, signal }: Scene): Promise<Attached> {
  const end = await tell({ show, stage, ear, signal }, 'instance-volume_attach-end', 'shiftvol.attach');
  const list = (await shiftvol(stage.config, ['list'], signal)) as readonly Attached[];
  const [attachment] = list;
  if (attachment === undefined) throw new Error('nothing is attached');
  const handoff = stepsOf(end).find(s => s.step === 'handoff')?.ms ?? 0;
  const inside = Number(end.payload['duration_ms']);
  return { ...attachment, ms: { ready: inside - handoff, inside } };
}

export async function detachByNova(scene: Scene): Promise<void> {
  const { show, stage } = scene;
  await tell(scene, 'instance-volume_detach-start', 'shiftvol.detach');
  const inside = await stage.lxd.exec(IDS.name, ['ls', `${TARGET}/${SHOWN}`]);
  show.done(`in the container: ${inside.stderr.trim() || inside.stdout.trim()}`);
  show.note('the snapshot is kept: attached again, the container finds what it wrote');
}

export async function deleteByNova(scene: Scene): Promise<void> {
  await tell(scene, 'instance-delete-end', 'shiftvol.destroy');
}

async function tell({ show, stage, ear, signal }: Scene, sample: string, answer: string): Promise<Heard> {
  const requestId = `req-${crypto.randomUUID()}`;
  const note = novaNote(sample, IDS, requestId);
  show.block('sent by oslo.messaging’s Notifier, in Python, to the exchange "nova"', [
    ['event_type', note.event_type],
    ['publisher_id', note.publisher_id],
    ['instance', IDS.instance],
    ...(sample.includes('volume') ? ([['volume_id', IDS.volume]] as const) : []),
    ['request', requestId],
  ]);
  const { sent } = await emit(stage.rabbit.url, [note]);
  if (sent !== 1) throw new Error('the notifier could not send');
  const heard = await ear.until(h => h.event_type === `${answer}.end` || h.event_type === `${answer}.error`, signal);
  const end = heard.at(-1);
  if (end === undefined || end.event_type.endsWith('.error')) throw new Error(JSON.stringify(end?.payload['error']));
  show.block('heard on the bus by an oslo.messaging listener, in Python', conversation(heard, note.event_type));
  show.block('the agent’s steps', steps(end));
  return end;
}

/** Every message with its time after the first one of this kind. */
export function conversation(heard: readonly Heard[], first: string): Row[] {
  const from = heard.findLastIndex(h => h.event_type === first);
  const told = heard.slice(Math.max(0, from));
  const began = at(told[0]);
  return told.map(h => [`+${(at(h) - began).toFixed(0).padStart(3)} ms  ${h.event_type}`, facts(h)]);
}

/** oslo.messaging's timestamps are UTC without a zone. */
const at = (heard: Heard | undefined): number =>
  Date.parse(`${heard?.metadata.timestamp.replace(' ', 'T').slice(0, 23)}Z`);

const SHOWN_KEYS: readonly string[] = ['template', 'target', 'duration_ms'];

function facts({ publisher_id, payload }: Heard): string {
  const told = SHOWN_KEYS.filter(key => key in payload && payload[key] !== null).map(key => `${key}=${payload[key]}`);
  return [`by ${publisher_id}`, ...told].join('  ');
}

function stepsOf(end: Heard): { readonly step: string; readonly ms: number }[] {
  const list = end.payload['steps'];
  return Array.isArray(list) ? list.map(s => ({ step: String(s.step), ms: Number(s.ms) })) : [];
}

function steps(end: Heard): Row[] {
  const rows: Row[] = stepsOf(end).map(s => [s.step, duration(s.ms).padStart(8)]);
  return [...rows, ['in all', duration(Number(end.payload['duration_ms'])).padStart(8)]];
}

export async function showOwners({ show, stage, signal }: Scene, attached: Attached): Promise<void> {
  const { lxd } = stage;
  const inside = await lxd.sh(IDS.name, `ls -ln ${TARGET}/${SHOWN} | head -5`);
  show.block(`in the container: ls -ln ${TARGET}/${SHOWN}`, withoutTotal(inside));
  const outside = await output('ls', ['-ln', join(attached.hostPath, SHOWN)], signal);
  show.block(`on the host: ls -ln ${attached.hostPath}/${SHOWN}`, withoutTotal(outside));
  show.note('nothing was changed on the disk: the kernel shifts the owners as they are looked at');
}

const withoutTotal = (text: string): string[] =>
  text
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('total'))
    .slice(0, 4);

/** A process of the container writes, and its file is looked at from three sides. */
export async function writeInside({ show, stage, signal }: Scene, attached: Attached): Promise<void> {
  const { lxd } = stage;
  const dir = `${TARGET}/uploads`;
  await lxd.sh(IDS.name, `mkdir ${dir} && chown 33:33 ${dir}`);
  const script = `echo hello > ${dir}/hello`;
  await lxd.sh(IDS.name, script, { uid: 33 });
  await output('sync', ['-f', join(attached.hostPath, 'uploads/hello')], signal);
  show.done(`a process of uid 33 in the container: ${script}`);
  const host = statSync(join(attached.hostPath, 'uploads/hello'));
  show.block('its owner', [
    ['in the container', await lxd.sh(IDS.name, `stat -c %u:%g ${dir}/hello`)],
    ['on the host', `${host.uid}:${host.gid}`],
    ['on the disk', await ownerOnDisk(attached.image, '/uploads/hello', signal)],
  ]);
}

/** Read from the image itself, past every mount. */
async function ownerOnDisk(image: string, path: string, signal: AbortSignal): Promise<string> {
  const text = await output('debugfs', ['-R', `stat ${path}`, image], signal);
  const [, user, group] = /User:\s*(\d+)\s+Group:\s*(\d+)/.exec(text) ?? [];
  if (user === undefined || group === undefined) throw new Error(`debugfs: ${text}`);
  return `${user}:${group}`;
}

export async function theOldWay({ show, stage, signal }: Scene, attached: Attached, owner: number): Promise<void> {
  const image = join(stage.poolDir, 'templates', TEMPLATE, 'image');
  const { cloneMs, mountMs, chownMs } = await chownEverything(image, { beside: stage.poolDir, owner, signal });
  show.done('cp --reflink=always image clone.img', cloneMs);
  show.done('mount -o loop clone.img clone', mountMs);
  show.done(`chown -hR ${owner}:${owner} clone`, chownMs);
  const old = cloneMs + mountMs + chownMs;
  show.bars([
    { name: 'shiftvol, ready on the host', ms: attached.ms.ready },
    { name: 'shiftvol, in the container', ms: attached.ms.inside },
    { name: 'chown, ready on the host', ms: old },
  ]);
  show.note(
    `chown takes ${times(old / attached.ms.ready)} as long, and more with every file; shiftvol’s time does not depend on them`,
  );
  show.note('and it wrote to every file, and gave all of them to one owner');
}

/** What there is that detach and destroy must take away. */
export async function traces({ stage, signal }: Omit<Scene, 'ear' | 'show'>): Promise<Traces> {
  const { hostState } = await import('../rig/host.ts');
  const { loops, mounts } = hostState(stage.work);
  const files = await output('find', [join(stage.poolDir, 'snapshots'), stage.runDir, '-mindepth', '1'], signal).catch(
    () => '',
  );
  const { ranges } = (await shiftvol(stage.config, ['idmap', 'list'], signal)) as {
    ranges: readonly { owner: string }[];
  };
  const { devices } = await stage.lxd.get(IDS.name);
  return new Map([
    ['mounts, in all mount namespaces', list(mounts.map(m => m.split(' ').slice(1).join(' ')))],
    ['loop devices', list(loops)],
    ['snapshots and run files', list(files.split('\n').filter(line => line !== ''))],
    ['id ranges of ours', list(ranges.filter(r => r.owner.startsWith('shiftvol')).map(r => r.owner))],
    ['devices of the container', JSON.stringify(devices)],
    ['attachments', JSON.stringify(await shiftvol(stage.config, ['list'], signal))],
  ]);
}

/** Each once: a program that starts meanwhile may get a mount namespace with copies of the same mounts. */
const list = (lines: readonly string[]): string => [...new Set(lines)].toSorted().join('\n');

export async function nothingLeft({ show, stage, signal }: Scene, before: Traces): Promise<void> {
  let after = await traces({ stage, signal });
  // A loop device is free a moment after its last user has gone, and another program may be looking at this one.
  for (let tries = 0; tries < LOOKS && different(before, after).length > 0; tries++) {
    await sleep(100);
    after = await traces({ stage, signal });
  }
  const [wrong] = different(before, after);
  if (wrong !== undefined) throw new Error(`${wrong}: was\n${before.get(wrong)}\nis\n${after.get(wrong)}`);
  for (const what of before.keys()) show.done(`${what}: as before`);
  const began = performance.now();
  await shiftvol(stage.config, ['template', 'verify', TEMPLATE], signal);
  show.done('shiftvol template verify: not one byte of the template changed', performance.now() - began);
}

const LOOKS = 20;
type Traces = ReadonlyMap<string, string>;
const different = (before: Traces, after: Traces): string[] =>
  [...before.keys()].filter(what => before.get(what) !== after.get(what));
