/** An initramfs as the kernel reads it: one archive after the other, each in the "newc" format. @see Documentation/driver-api/early-userspace/buffer-format.rst */

export type Entry = { readonly path: string; readonly mode: number; readonly contents?: Buffer };

const DIRECTORY = 0o040000;
const FILE = 0o100000;

export const directory = (path: string): Entry => ({ path, mode: DIRECTORY | 0o755 });
export const file = (path: string, contents: Buffer | string, mode = 0o755): Entry => ({
  path,
  mode: FILE | mode,
  contents: Buffer.from(contents),
});

/** Directories must come before what is in them. */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts = [...entries, { path: 'TRAILER!!!', mode: 0 }].flatMap((entry, i) => encode(entry, i + 1));
  return Buffer.concat(parts);
}

function encode({ path, mode, contents = Buffer.alloc(0) }: Entry, inode: number): readonly Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map(n => n.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, padding(header.length + name.length), contents, padding(contents.length)];
}

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
