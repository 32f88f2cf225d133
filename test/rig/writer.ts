/** A process that writes and syncs without a pause, and notes how long it was kept waiting. argv: file, which is there. A line for each wait above 5 ms. */
import { fdatasyncSync, openSync, writeSync } from 'node:fs';

const [path = ''] = process.argv.slice(2);
const fd = openSync(path, 'r+');
process.on('SIGTERM', () => process.exit(0));
let last = performance.now();
let count = 0;
function write(): void {
  writeSync(fd, `${++count}\n`.padStart(12, '0'), 0);
  fdatasyncSync(fd);
  const now = performance.now();
  if (count === 1) process.stdout.write('writing\n');
  if (now - last > 5) process.stdout.write(`waited ${now - last}\n`);
  last = now;
  setTimeout(write, 1);
}
write();
