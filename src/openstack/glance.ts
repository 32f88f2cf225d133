/** Images of Glance v2. */
import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import { z } from 'zod';
import { ShiftvolError } from '../errors.ts';
import { downloadImage } from './glance-download.ts';
import { IMAGE_ID, type Image, imageShape } from './glance-image.ts';
import { OpenstackError } from './openstack-error.ts';
import type { CloudRequest, CloudSession } from './session.ts';
import { readAnswer } from './wire.ts';

export type { Digest, Image } from './glance-image.ts';

/** `sizeBytes`: for a body whose length is known; Glance then refuses one that is cut. */
export type UploadOptions = { readonly sizeBytes?: number };

const HASH = 'sha512';

export class Glance {
  readonly #session: CloudSession;

  constructor(session: CloudSession) {
    this.#session = session;
  }

  /** By id, else by name. @throws SV_OPENSTACK_NOT_FOUND; SV_USAGE: several have this name */
  async image(idOrName: string, signal: AbortSignal): Promise<Image> {
    const purpose = `find the image ${JSON.stringify(idOrName)}`;
    if (IMAGE_ID.test(idOrName)) {
      const found = await this.#byId(idOrName, purpose, signal);
      if (found) return found;
    }
    const { body } = await this.#ask(
      { method: 'GET', path: '/images', query: { name: idOrName, limit: '20' }, purpose },
      signal,
    );
    const { images } = readAnswer(z.looseObject({ images: z.array(imageShape) }), body, purpose);
    const [image, ...others] = images;
    if (image === undefined)
      throw new OpenstackError('SV_OPENSTACK_NOT_FOUND', `Cannot ${purpose}: there is none that this user can see`, {
        status: 404,
        field: 'image',
      });
    if (others.length === 0) return image;
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot tell which image ${JSON.stringify(idOrName)} is: ${images.map(i => i.id).join(', ')} have this name`,
      { field: 'image', remedy: 'give the id' },
    );
  }

  /**
   * The stream fails at its end if what came is not what Glance hashed: use nothing of it before. Connections that break are taken up
   * again where they broke.
   * @throws SV_IMAGE_REFUSED: no data, or a hash that is not known here. The stream: SV_CHECKSUM, SV_DOWNLOAD, SV_OPENSTACK...
   */
  async download(image: Image, signal: AbortSignal): Promise<Readable> {
    if (image.status !== 'active')
      throw new ShiftvolError(
        'SV_IMAGE_REFUSED',
        `Cannot download the image ${image.name ?? image.id}: it is ${image.status}, active is accepted`,
        { field: 'image' },
      );
    return downloadImage(this.#session, image, signal);
  }

  /** Says what an image will be that has no data yet; afterwards Glance refuses it. */
  async describe(
    imageId: string,
    { diskFormat, containerFormat }: { readonly diskFormat: string; readonly containerFormat: string },
    signal: AbortSignal,
  ): Promise<void> {
    const add = (name: string, value: string) => ({ op: 'add', path: `/${name}`, value });
    await this.#ask(
      {
        method: 'PATCH',
        path: `/images/${encodeURIComponent(imageId)}`,
        json: [add('disk_format', diskFormat), add('container_format', containerFormat)],
        headers: { 'content-type': 'application/openstack-images-v2.1-json-patch' },
        repeatable: true,
        purpose: `describe the image ${imageId}`,
      },
      signal,
    );
  }

  /** Fills an image that waits for its data: one that Nova made for a snapshot. Whoever made it removes it, if this fails. */
  async uploadInto(imageId: string, body: Readable, signal: AbortSignal, options: UploadOptions = {}): Promise<Image> {
    const purpose = `upload the image ${imageId}`;
    const hash = createHash(HASH);
    const measured = new Transform({
      transform(chunk: Buffer, _encoding, next) {
        hash.update(chunk);
        next(null, chunk);
      },
    });
    // A source that fails must end the request, or Glance would take what came for all of it.
    let failure: unknown;
    body.once('error', error => {
      failure = error;
      measured.destroy(error);
    });
    const { sizeBytes } = options;
    try {
      await this.#ask(
        {
          method: 'PUT',
          path: `/images/${encodeURIComponent(imageId)}/file`,
          body: body.pipe(measured),
          headers: {
            'content-type': 'application/octet-stream',
            ...(sizeBytes !== undefined && { 'content-length': String(sizeBytes) }),
          },
          timeoutMs: UPLOAD_TIMEOUT_MS,
          purpose,
        },
        signal,
      );
    } catch (error) {
      throw failure ?? error;
    } finally {
      body.destroy();
    }
    const image = await this.image(imageId, signal);
    const mine = hash.digest('hex');
    if (image.digest?.algorithm === HASH && image.digest.hex !== mine)
      throw new ShiftvolError(
        'SV_CHECKSUM',
        `Cannot ${purpose}: what arrived has the ${HASH} ${image.digest.hex}, ${mine} was sent`,
        { field: 'os_hash_value' },
      );
    return image;
  }

  async #byId(id: string, purpose: string, signal: AbortSignal): Promise<Image | undefined> {
    try {
      const { body } = await this.#ask({ method: 'GET', path: `/images/${id}`, purpose }, signal);
      return readAnswer(imageShape, body, purpose);
    } catch (error) {
      if (error instanceof OpenstackError && error.status === 404) return undefined;
      throw error;
    }
  }

  #ask(request: CloudRequest, signal: AbortSignal) {
    return this.#session.request('image', request, signal);
  }
}

/** For Glance to have stored it, once it is sent. */
const UPLOAD_TIMEOUT_MS = 600_000;
