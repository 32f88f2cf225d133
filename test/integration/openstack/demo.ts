/** What is in the recordings. */

/** Some bytes of which no two kilobytes are alike. */
export function demoBody(): Buffer {
  return Buffer.from(Array.from({ length: 1000 }, (_, i) => `line ${i}\n`).join(''));
}

export const CONNECTOR = {
  host: 'node1',
  ip: '192.0.2.10',
  initiator: 'iqn.1993-08.org.debian:01:node1',
  multipath: false,
  os_type: 'linux',
  platform: 'x86_64',
  do_local_attach: false,
} as const;
