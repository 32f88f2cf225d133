/** Faults for the steps of a saga, as wrappers of them: the engine knows nothing of it. */
import type { Step, WrapStep } from '../../src/engine/saga.ts';

export class Injected extends Error {}

/** Only the step of this name is changed. */
export function changeStep(name: string, how: <In, Out>(step: Step<In, Out>) => Partial<Step<In, Out>>): WrapStep {
  return step => (step.name === name ? { ...step, ...how(step) } : step);
}

export function failBefore(name: string): WrapStep {
  return changeStep(name, () => ({ do: () => Promise.reject(new Injected(`before ${name}`)) }));
}

export function failAfter(name: string): WrapStep {
  return changeStep(name, step => ({
    do: async (input, signal) => {
      const result = await step.do(input, signal);
      // What the step has opened would be in the hands of whoever goes on; nobody does.
      if (result && typeof result === 'object' && 'device' in result)
        await (result.device as AsyncDisposable)[Symbol.asyncDispose]();
      throw new Injected(`after ${name}`);
    },
  }));
}

export function doTwice(name: string): WrapStep {
  return changeStep(name, step => ({
    do: async (input, signal) => {
      const first = await step.do(input, signal);
      const second = await step.do(input, signal);
      // One that was ready beforehand is the same each time.
      const [one, other] = [first, second].map(result => (result as { device?: AsyncDisposable }).device);
      if (one !== other) await one?.[Symbol.asyncDispose]();
      return second;
    },
  }));
}

export const undoTwice: WrapStep = step => ({
  ...step,
  undo: async (plan, options) => {
    await step.undo(plan, options);
    await step.undo(plan, options);
  },
});
