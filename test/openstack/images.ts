/** The busybox of the tests in Glance, as a raw ext4 image and as qcow2. Made once a cloud. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { makeRootfs } from '../rig/busybox.ts';
import type { Cloud } from '../rig/cloud/cloud.ts';
import type { Servers } from './servers.ts';

const run = promisify(execFile);
const IMAGES = z.object({ images: z.array(z.object({ id: z.string(), name: z.string() })) });

/** Ids of the two. */
export type Images = { readonly raw: string; readonly qcow2: string };

export async function uploadImages(cloud: Cloud, servers: Servers): Promise<Images> {
  const there = IMAGES.parse(await cloud.api.get('glance', '/images')).images;
  const known = (name: string) => there.find(image => image.name === name)?.id;
  const [raw, qcow2] = [known('busybox'), known('busybox-qcow2')];
  if (raw !== undefined && qcow2 !== undefined) return { raw, qcow2 };
  const work = mkdtempSync(join(tmpdir(), 'shiftvol-image-'));
  try {
    const files = await makeImages(work);
    return {
      raw: await servers.upload('busybox', files.raw, 'raw'),
      qcow2: await servers.upload('busybox-qcow2', files.qcow2, 'qcow2'),
    };
  } finally {
    rmSync(work, { recursive: true });
  }
}

async function makeImages(work: string): Promise<Images> {
  const [tree, raw, qcow2] = [join(work, 'tree'), join(work, 'busybox.raw'), join(work, 'busybox.qcow2')];
  mkdirSync(tree);
  await makeRootfs(tree);
  await run('truncate', ['-s', '64M', raw]);
  await run('mkfs.ext4', ['-q', '-F', '-L', 'busybox', '-d', tree, raw]);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  return { raw, qcow2 };
}
