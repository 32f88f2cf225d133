/** What a user of an unmodified Nova does, on two hosts with the driver and the agent. */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { evacuationSteps } from './evacuation.ts';
import { lifecycleSteps } from './lifecycle.ts';
import { liveSteps } from './live.ts';
import { moveSteps } from './moves.ts';
import { restartSteps } from './restarts.ts';
import { stateSteps } from './states.ts';
import { printTableAtTheEnd } from './steps.ts';
import { volumeSteps } from './volumes.ts';
import { OpenStack } from './world.ts';

const UP_MS = 300_000;
let stack: OpenStack | undefined;
const it = () => {
  assert.ok(stack, 'the cloud did not come up');
  return stack;
};

before(
  async () => {
    const began = performance.now();
    const say = (text: string) =>
      console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`);
    // Thrown here it would be repeated by every step.
    stack = await OpenStack.up({ say }).catch(error => void console.error(error));
  },
  { timeout: UP_MS },
);
printTableAtTheEnd('OpenStack');
after(() => stack?.[Symbol.asyncDispose](), { timeout: UP_MS });

lifecycleSteps(it);
stateSteps(it);
volumeSteps(it);
moveSteps(it);
liveSteps(it);
restartSteps(it);
// The last: a host that is left down would spoil all others.
evacuationSteps(it);
