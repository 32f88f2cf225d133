/** A tar archive of a few texts, in memory. @see tar(5), ustar */

const BLOCK = 512;

/** `files`: name -> contents; names of up to 100 bytes, all mode 0600. */
export function tarOf(files: ReadonlyMap<string, string>, mtime: Date): Buffer {
  const parts = [...files].flatMap(([name, text]) => {
    const content = Buffer.from(text);
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    return [header(name, content.length, mtime), content, padding];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

function header(name: string, size: number, mtime: Date): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, '0');
  block.write(name, 0, 100);
  block.write(octal(0o600, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(Math.floor(mtime.getTime() / 1000), 11), 136);
  block.write(' '.repeat(8), 148); // the sum is taken with blanks in its own place
  block.write('0', 156);
  block.write('ustar\0', 257);
  block.write('00', 263);
  block.write(
    `${octal(
      block.reduce((sum, byte) => sum + byte, 0),
      6,
    )}\0 `,
    148,
  );
  return block;
}
