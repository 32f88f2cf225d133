/** Waits for a condition, never for a time. */
import { setTimeout as sleep } from 'node:timers/promises';

const WAIT_MS = 120_000;
const LOOK_MS = 150;

/** Looks again and again. @throws with `what` after two minutes */
export async function waited<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  limitMs = WAIT_MS,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await sleep(LOOK_MS);
  }
}
