/** Freezes a path and says so, then waits to be killed. argv: deadline in milliseconds, path. */
import { freezer } from '../../../src/storage/freezer.ts';

const [deadline, path = ''] = process.argv.slice(2);
const frozen = await freezer().freeze([path], { deadlineMs: Number(deadline) });
if (!('guardPid' in frozen)) throw new Error('there is no guard');
process.stdout.write(`${JSON.stringify({ guardPid: frozen.guardPid })}\n`);
setInterval(() => undefined, 1000);
