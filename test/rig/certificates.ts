import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export type Certificates = AsyncDisposable & { readonly ca: string; readonly cert: string; readonly key: string };

/** Files of a CA of its own and of a server named `localhost` (by name only), good for two days. */
export async function makeCertificates(): Promise<Certificates> {
  const dir = await mkdtemp(join(tmpdir(), 'shiftvol-tls-'));
  const file = (name: string) => join(dir, name);
  const openssl = (line: string) => promisify(execFile)('openssl', line.split(' '), { cwd: dir });
  await openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-CA -keyout ca.key -out ca.pem');
  await openssl('req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out csr.pem');
  await writeFile(file('ext'), 'subjectAltName=DNS:localhost\n');
  await openssl('x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem');
  return {
    ca: file('ca.pem'),
    cert: file('cert.pem'),
    key: file('key.pem'),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}
