/** What is told of a volume before its bytes. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Attachment, InstanceRef } from '../engine/model.ts';
import type { Template } from '../engine/ports.ts';
import { FORMAT, type Header } from './header.ts';

export type Moving = Pick<Attachment['plan'], 'id' | 'role' | 'target' | 'readOnly'> & {
  readonly instance: InstanceRef;
};

export type HeaderOptions = {
  readonly withTemplate: boolean;
  /** An earlier snapshot of the volume, which the receiver has the bytes of. */
  readonly since?: string;
  readonly last: boolean;
};

/** `image`: a snapshot that nobody changes any more. */
export function headerOf(
  { id, role, target, readOnly, instance }: Moving,
  template: Template,
  image: string,
  { withTemplate, since, last }: HeaderOptions,
): Header {
  const { name, sha256, sizeBytes, fsType, idBase } = template;
  return {
    format: FORMAT,
    attachment: id,
    instance: instance.ref,
    ...(instance.project !== undefined && { project: instance.project }),
    role,
    target,
    readOnly,
    fsType,
    idBase,
    sizeBytes: statSync(image).size,
    template: { name, sha256, sizeBytes, fsType, idBase, included: withTemplate },
    version: versionOf(image),
    ...(since !== undefined && { since: versionOf(since) }),
    last,
  };
}

/** A snapshot is known again by these, as long as it is there; another one of the same name is another version. */
export function versionOf(image: string): string {
  const { dev, ino, size, mtimeNs, birthtimeNs } = statSync(image, { bigint: true });
  return createHash('sha256').update([dev, ino, size, mtimeNs, birthtimeNs].join(' ')).digest('hex');
}
