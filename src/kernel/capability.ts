import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Bits of capabilities that something of ours may lack in a container, though it runs as root. @see capabilities(7) */
const BITS = { SYS_RESOURCE: 24n } as const;

/** Whether this process has it in effect. */
export function hasCapability(procRoot: string, name: keyof typeof BITS): boolean {
  const [, effective] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(join(procRoot, 'self/status'), 'utf8')) ?? [];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BITS[name]) & 1n) === 1n;
}
