#!/usr/bin/env node
/**
 * `shiftvol`, when Node is started with this file. Whatever Node that is must be able to read it, so that an old one can say what is
 * needed; the launcher beside it, `shiftvol`, takes the right one.
 */
import * as nodeModule from 'node:module'; // by name, what an old Node does not have would be a syntax error there

const NEEDED = 24;

if (Number.parseInt(process.versions.node, 10) < NEEDED) {
  process.stderr.write(
    `shiftvol: Cannot run on Node ${process.versions.node}: ${NEEDED} or later is needed (start it with the command "shiftvol", which takes the Node that came with it, or with that one: node_modules/node/bin/node)\n`,
  );
  process.exitCode = 5;
} else {
  // Not Node's own default, a directory below /tmp: whoever makes that first could put code of his own into it.
  if (process.getuid?.() === 0) nodeModule.enableCompileCache('/var/cache/shiftvol');
  const { run } = await import('./program.ts');
  process.exitCode = await run(process.argv.slice(2));
}
