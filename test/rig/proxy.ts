import { connect, createServer, type Socket } from 'node:net';

export type Proxy = AsyncDisposable & {
  readonly port: number;
  /** From now on the server hears nothing more of what clients say; what it says still gets to them. */
  swallow(): void;
};

/** A way to a server on this host that can be cut in one direction. */
export async function startProxy(serverPort: number): Promise<Proxy> {
  const sockets = new Set<Socket>();
  let swallowing = false;
  const server = createServer(client => {
    const upstream = connect(serverPort, '127.0.0.1');
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true).on('error', end);
      socket.once('close', () => sockets.delete(socket));
    }
    // The other way round its end is passed on, behind what came before it.
    client.once('close', end);
    client.on('data', chunk => {
      if (!swallowing) upstream.write(chunk);
    });
    upstream.pipe(client);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  return {
    port: address.port,
    swallow() {
      swallowing = true;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise(resolve => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
