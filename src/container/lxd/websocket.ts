/**
 * The receiving side of a WebSocket (RFC 6455) on a unix socket, which Node's own cannot do: text messages in, pings answered. No
 * extension is offered, so none is used; a server's frames are not masked, ours must be.
 */
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { addAbortSignal, type Duplex } from 'node:stream';

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
/** LXD's events have some hundred bytes. */
const MAX_MESSAGE_BYTES = 1 << 20;

type Frame = { readonly final: boolean; readonly opcode: number; readonly payload: Buffer; readonly bytes: number };

/** The messages, until the server closes or the socket is destroyed. @throws what the connection failed with */
export async function* messages(socket: Duplex): AsyncGenerator<string> {
  let buffered: Buffer = Buffer.alloc(0);
  let parts: Buffer[] = [];
  for await (const chunk of socket) {
    buffered = Buffer.concat([buffered, chunk]);
    for (let frame = readFrame(buffered); frame; frame = readFrame(buffered)) {
      buffered = buffered.subarray(frame.bytes);
      if (frame.opcode === CLOSE) return;
      if (frame.opcode === PING) socket.write(maskedFrame(PONG, frame.payload));
      if (frame.opcode > TEXT) continue;
      parts.push(frame.payload);
      if (!frame.final) continue;
      yield Buffer.concat(parts).toString('utf8');
      parts = [];
    }
  }
}

/** The caller owns the socket and destroys it; the signal ends it too. @throws an Error where the server does not upgrade */
export function openWebSocket(socketPath: string, path: string, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
    };
    const upgrade = request({ socketPath, path, headers, agent: false, signal });
    upgrade.on('upgrade', (_, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      addAbortSignal(signal, socket);
      resolve(socket);
    });
    upgrade.on('response', ({ statusCode }) => {
      upgrade.destroy();
      reject(new Error(`no WebSocket at ${path}: HTTP status ${statusCode}`));
    });
    upgrade.on('error', reject);
    upgrade.end();
  });
}

/** The first frame of `data`, or undefined where it is not complete yet. */
export function readFrame(data: Buffer): Frame | undefined {
  if (data.length < 2) return undefined;
  const first = data.readUInt8(0);
  const short = data.readUInt8(1) & 0x7f;
  const start = short === 127 ? 10 : short === 126 ? 4 : 2;
  if (data.length < start) return undefined;
  const length = short === 127 ? Number(data.readBigUInt64BE(2)) : short === 126 ? data.readUInt16BE(2) : short;
  if (length > MAX_MESSAGE_BYTES) throw new Error(`a message of ${length} bytes, ${MAX_MESSAGE_BYTES} are accepted`);
  if (data.length < start + length) return undefined;
  const payload = data.subarray(start, start + length);
  return { final: (first & 0x80) !== 0, opcode: first & 0x0f, payload, bytes: start + length };
}

/** A control frame: at most 125 bytes. */
export function maskedFrame(opcode: number, payload: Buffer): Buffer {
  const mask = randomBytes(4);
  const masked = payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0));
  return Buffer.concat([Buffer.of(0x80 | opcode, 0x80 | payload.length), mask, masked]);
}
