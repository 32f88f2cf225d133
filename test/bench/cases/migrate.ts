/**
 * A volume goes from one host to another whose instance has other ids. What both hosts reach changes only its map, where the field has every
 * file's owner rewritten: chown -hR, and LXD's own fuidshift. What is in a pool is sent twice: while it is in use, and what changed meanwhile.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { AttachmentId } from '../../../src/engine/model.ts';
import type { Template } from '../../../src/engine/ports.ts';
import { ByteReader } from '../../../src/migrate/byte-reader.ts';
import { headerOf } from '../../../src/migrate/facts.ts';
import { readHead } from '../../../src/migrate/frame.ts';
import { Incoming } from '../../../src/migrate/incoming.ts';
import { receiveVolume } from '../../../src/migrate/receive.ts';
import { sendVolume } from '../../../src/migrate/send.ts';
import { waitUnused } from '../../../src/storage/private-mount.ts';
import { makePool, run } from '../../rig/pool.ts';
import { type Bench, clocked } from '../bench.ts';
import { ID_POOL, startHost } from '../host.ts';
import { type Row, ratioRow, sumRow, valueRow } from '../report.ts';
import { median } from '../statistics.ts';

/** Map and mounts of both hosts, beside seconds of chown. */
const AT_MOST_MS = 50;
const ROUNDS = 10;
const CHOWN_ROUNDS = 3;
const MIB = 2 ** 20;
const ID = '0123456789abcdef' as AttachmentId;

export async function migrateCase(bench: Bench): Promise<readonly Row[]> {
  const rows: Row[] = [];
  const files = Math.max(...bench.options.files);
  for (const fs of bench.options.fs)
    rows.push(...(await sharedRows(bench, await bench.pool.template(files, fs), files)));
  rows.push(...(await passRows(bench)));
  return rows;
}

/** Two engines with state of their own, two containers with ids of their own, one image. */
async function sharedRows(bench: Bench, template: Template, files: number): Promise<readonly Row[]> {
  const { workspace, pool } = bench;
  const { signal } = workspace;
  const lxd = await bench.lxd();
  const { fsType } = template;
  const names = [`from-${fsType}`, `to-${fsType}`] as const;
  for (const name of names) await lxd.launch(name);
  await using a = await startHost(workspace, pool, names[0], { lxdSocket: lxd.socketPath });
  await using b = await startHost(workspace, pool, names[1], { lxdSocket: lxd.socketPath });
  const path = join(pool.poolDir, `shared-${fsType}.img`);
  copyFileSync(template.path, path, constants.COPYFILE_FICLONE_FORCE);
  const source = { kind: 'file', path } as const;
  const about = { target: '/mnt/data', instance: { ref: '' } };
  const sides = [
    { engine: a.engine, instance: { ref: names[0] } },
    { engine: b.engine, instance: { ref: names[1] } },
  ];
  const [whole, ours]: [number[], number[]] = [[], []];
  const byStep = new Map<string, number[]>();
  try {
    await a.engine.execute(
      { ...about, instance: { ref: names[0] }, action: 'attach', source, readOnly: false },
      signal,
    );
    for (let round = 0; round <= ROUNDS; round++) {
      const [from, to] = round % 2 === 0 ? sides : sides.toReversed();
      if (!from || !to) break;
      const steps: { step: string; ms: number }[] = [];
      const ms = await clocked(async () => {
        const let_ = { ...about, instance: from.instance, action: 'detach', lazy: false } as const;
        steps.push(...(await from.engine.execute(let_, signal)).steps);
        const attach = { ...about, instance: to.instance, action: 'attach', source, readOnly: false } as const;
        steps.push(...(await to.engine.execute(attach, signal)).steps);
      });
      if (round === 0) continue; // loads code
      whole.push(ms);
      for (const { step, ms: took } of steps) byStep.set(step, [...(byStep.get(step) ?? []), took]);
      // The device that the container's configuration gets and loses is LXD's own work.
      ours.push(steps.filter(s => !s.step.includes('handoff')).reduce((sum, s) => sum + s.ms, 0));
    }
  } finally {
    for (const { engine, instance } of sides)
      await engine.execute({ action: 'destroy', instance, lazy: false }, signal).catch(() => undefined);
    unlinkSync(path);
    for (const name of names) {
      await lxd.stop(name);
      await lxd.delete(name);
    }
  }
  const where = (name: string) => ({ case: name, files, fs: fsType });
  const peers = await shiftRows(bench, template);
  return [
    sumRow(where('shared move: map and mounts'), { ours }, AT_MOST_MS),
    ...[...byStep].map(([step, all]) => valueRow(where(`  ${step}`), median(all), 'ms', undefined, all.length)),
    ...peers.map(({ peerName, peer }) =>
      ratioRow(where('shared move, all of it'), { ours: whole.slice(0, peer.length), peer, peerName }),
    ),
  ];
}

/** The owners of every file rewritten, on a mounted copy. */
async function shiftRows({ pool, workspace }: Bench, template: Template) {
  const base = ID_POOL.start;
  const tools = [
    ['chown -hR', () => ['chown', '-hR', `${base}:${base}`]],
    ['fuidshift', (mountPoint: string) => ['fuidshift', mountPoint, `b:0:${base}:65536`]],
  ] as const;
  const found: { peerName: string; peer: number[] }[] = [];
  for (const [peerName, lineFor] of tools) {
    const peer: number[] = [];
    for (let round = 0; round < CHOWN_ROUNDS; round++) {
      workspace.signal.throwIfAborted();
      const image = join(pool.poolDir, 'shift.img');
      const mountPoint = join(workspace.dir, 'shift-mount');
      mkdirSync(mountPoint);
      copyFileSync(template.path, image, constants.COPYFILE_FICLONE_FORCE);
      run('chmod', 'u+w', image);
      run('mount', '-t', template.fsType, '-o', template.fsType === 'xfs' ? 'loop,nouuid' : 'loop', image, mountPoint);
      try {
        const [file = '', ...args] = lineFor(mountPoint);
        peer.push(await clocked(() => run(file, ...args, ...(file === 'chown' ? [mountPoint] : []))));
      } finally {
        run('umount', mountPoint);
        rmdirSync(mountPoint);
        await waitUnused(image);
        rmSync(image);
      }
    }
    found.push({ peerName, peer });
  }
  return found;
}

/** 512 MiB were written before the first pass, 16 MiB while it was sent: down time is the second one. To another pool on this machine. */
async function passRows({ pool, options }: Bench): Promise<readonly Row[]> {
  const fs = options.fs[0] ?? 'ext4';
  const template = await pool.template(Math.min(...options.files), fs);
  using other = makePool('xfs', 16 * 2 ** 30);
  const image = join(pool.poolDir, 'moving.img');
  const clones = [`${image}.1`, `${image}.2`] as const;
  const work = async (path: string, since?: string) => {
    const moving = { id: ID, role: 'volume', target: '/mnt/data', readOnly: false, instance: { ref: 'c1' } } as const;
    const withTemplate = since === undefined;
    const header = headerOf(moving, template, path, {
      withTemplate,
      last: !withTemplate,
      ...(since !== undefined && { since }),
    });
    const before = since ?? template.path;
    const sending = sendVolume({ header, image: path, before, ...(withTemplate && { template: template.path }) }, {});
    let sent = 0;
    const counted = async function* () {
      for await (const chunk of sending) {
        sent += chunk.length;
        yield chunk;
      }
    };
    const stream = counted();
    const reader = new ByteReader(stream);
    const head = await readHead(reader);
    if (head?.kind !== 'volume') throw new Error('no stream');
    using incoming = Incoming.open(other, ID);
    await receiveVolume(other, incoming, head.header, reader, { signal: new AbortController().signal });
    // Past its last frame it closes what it reads from.
    await stream.return(undefined);
    return sent;
  };
  try {
    run('cp', '--reflink=always', '--no-preserve=mode', template.path, image);
    run('truncate', '-s', '2G', image);
    fillRandom(image, statSync(template.path).size, 512);
    copyFileSync(image, clones[0], constants.COPYFILE_FICLONE_FORCE);
    let sent = 0;
    const first = await clocked(async () => {
      sent = await work(clones[0]);
    });
    for (let i = 0; i < 16; i++) fillRandom(image, statSync(template.path).size + i * 32 * MIB, 1);
    let last = 0;
    const second = await clocked(async () => {
      copyFileSync(image, clones[1], constants.COPYFILE_FICLONE_FORCE);
      last = await work(clones[1], clones[0]);
    });
    const where = (name: string) => ({ case: name, fs });
    const whole = { ours: [second], peer: [first], peerName: 'the first pass (512 MiB and the template)' };
    return [
      ratioRow(where('last pass (16 MiB changed)'), whole),
      valueRow(where('last pass: sent'), last / MIB, `MiB of ${Math.round(sent / MIB)}`),
      valueRow(where('first pass: rate'), sent / MIB / (first / 1000), 'MiB/s'),
    ];
  } finally {
    for (const path of [image, ...clones]) rmSync(path, { force: true });
  }
}

function fillRandom(path: string, at: number, megabytes: number): void {
  const fd = openSync(path, 'r+');
  for (let i = 0; i < megabytes; i++) writeSync(fd, randomBytes(MIB), 0, MIB, at + i * MIB);
  fdatasyncSync(fd);
  closeSync(fd);
}
