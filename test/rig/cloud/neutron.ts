/** Networking where servers have no network (`--nic none`): every list is empty. Nova asks for ports at each deletion all the same. */
import { createServer } from 'node:http';

const port = Number(process.argv[2]);

createServer((request, response) => {
  const path = new URL(request.url ?? '/', 'http://localhost').pathname.replace(/\/+$/, '').replace(/\.json$/, '');
  const self = { rel: 'self', href: `http://127.0.0.1:${port}/v2.0/` };
  const isRoot = path === '' || path === '/v2.0';
  const list = path.slice(path.lastIndexOf('/') + 1).replaceAll('-', '_');
  const body = isRoot ? { versions: [{ id: 'v2.0', status: 'CURRENT', links: [self] }] } : { [list]: [] };
  request.resume();
  response.setHeader('Content-Type', 'application/json').end(JSON.stringify(body));
}).listen(port, '127.0.0.1');
