/** `doctor --fix`: says each thing, asks, does it. */
import { createInterface } from 'node:readline/promises';
import type { Config } from '../config/schema.ts';
import type { Check } from '../doctor/check.ts';
import { fixesFor } from '../doctor/fix.ts';
import { explain } from '../errors.ts';

export type FixReport = {
  readonly check: string;
  readonly says: string;
  readonly did: boolean;
  readonly error?: string;
};

/**
 * Asks on standard error before each one, unless `yes`; where there is nobody to ask nothing is done, and all is said. What goes wrong is
 * told, and the rest goes on.
 */
export async function fix(
  checks: readonly Check[],
  config: Config,
  options: { readonly yes: boolean; readonly signal: AbortSignal },
): Promise<readonly FixReport[]> {
  const reports: FixReport[] = [];
  for (const { check, says, run } of await fixesFor(checks, config)) {
    const did = options.yes || (await agrees(says, options.signal));
    if (!did || options.yes) process.stderr.write(`${did ? '' : 'not done: '}${says}\n`);
    try {
      if (did) await run(options.signal);
      reports.push({ check, says, did });
    } catch (error) {
      process.stderr.write(`shiftvol: ${explain(error)}\n`);
      reports.push({ check, says, did: false, error: explain(error) });
    }
  }
  if (reports.length === 0) process.stderr.write('nothing that could be put right from here\n');
  return reports;
}

async function agrees(says: string, signal: AbortSignal): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(?:es)?$/i.test((await terminal.question(`${says}? [y/N] `, { signal })).trim());
  } finally {
    terminal.close();
  }
}
