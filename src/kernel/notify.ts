/** What a service manager is told: sd_notify(3)'s protocol, datagrams to the Unix socket that $NOTIFY_SOCKET names. */
import type { Fd } from './fd.ts';
import { Owned } from './fd.ts';
import { bind, check, NR } from './libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
/** sun_path of sockaddr_un(7), with the NUL of a path. */
const PATH_BYTES = 108;

const sys = {
  socket: bind(NR.socket, 'int', 'int', 'int'),
  sendto: bind(NR.sendto, 'int', 'void *', 'ulong', 'int', 'void *', 'uint'),
};

/**
 * Sends one datagram, `READY=1` for example. Node has no datagram sockets of this family. `address` is a path, or a name in the abstract
 * namespace that begins with "@".
 * @throws {KernelError} ENOENT, ECONNREFUSED: nobody listens there; EINVAL: no such address
 * @see sd_notify(3), unix(7)
 */
export function notify(address: string, text: string): void {
  using socket = new Owned<Fd>(check('socket', sys.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'AF_UNIX'));
  const body = Buffer.from(text);
  const name = socketAddress(address);
  check('sendto', sys.sendto(socket.fd, body, body.length, MSG_NOSIGNAL, name, name.length), address);
}

/** struct sockaddr_un: u16 family, then the path and its NUL, or a NUL and the abstract name, whose length is its end. */
function socketAddress(address: string): Buffer {
  const abstract = address.startsWith('@');
  const path = abstract ? Buffer.from(`\0${address.slice(1)}`) : Buffer.from(`${address}\0`);
  // What is too long goes down as it is, and the kernel says EINVAL.
  const name = Buffer.alloc(2 + Math.max(path.length, abstract ? 0 : 1));
  name.writeUInt16LE(AF_UNIX, 0);
  path.copy(name, 2);
  return name.subarray(0, 2 + Math.min(path.length, PATH_BYTES + 1));
}
