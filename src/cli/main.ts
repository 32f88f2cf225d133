#!/usr/bin/env node
/**
 * What bin/shiftvol starts. Whatever Node this is started with must be able to read it, so that an old one can say what is needed.
 */
import * as nodeModule from 'node:module'; // by name, what an old Node does not have would be a syntax error there

const NEEDED = 24;

if (Number.parseInt(process.versions.node, 10) < NEEDED) {
  process.stderr.write(
    `shiftvol: Cannot run on Node ${process.versions.node}: ${NEEDED} or later is needed (bin/shiftvol of the package takes the one that came with it)\n`,
  );
  process.exitCode = 5;
} else {
  // Not Node's own default, a directory below /tmp: whoever makes that first could put code of his own into it.
  if (process.getuid?.() === 0) nodeModule.enableCompileCache('/var/cache/shiftvol');
  const { run } = await import('./program.ts');
  process.exitCode = await run(process.argv.slice(2));
}
