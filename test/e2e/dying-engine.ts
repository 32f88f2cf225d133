/**
 * Runs commands in an engine that dies by SIGKILL at one named boundary. argv: `STEP:do|undo:before|after`, then commands in JSON.
 * Prints a line for each command that ended before.
 */
import { assemble } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Command } from '../../src/engine/model.ts';
import type { WrapStep } from '../../src/engine/saga.ts';
import { explain } from '../../src/errors.ts';

const [boundary = '', ...commands] = process.argv.slice(2);
const [name, way, when] = boundary.split(':');
const die = (): Promise<never> => {
  process.kill(process.pid, 'SIGKILL');
  return new Promise(() => undefined);
};
const dying: WrapStep = step => {
  if (step.name !== name) return step;
  return {
    ...step,
    do: async (input, signal) => {
      if (way === 'do' && when === 'before') await die();
      const result = await step.do(input, signal);
      if (way === 'do') await die();
      return result;
    },
    undo: async (plan, options) => {
      if (way === 'undo' && when === 'before') await die();
      await step.undo(plan, options);
      if (way === 'undo') await die();
    },
  };
};

await using host = await assemble(loadConfig(), { outbox: false, change: deps => ({ ...deps, wrapStep: dying }) });
for (const command of commands) {
  const { action } = JSON.parse(command) as Command;
  try {
    await host.engine.execute(JSON.parse(command) as Command, new AbortController().signal);
    console.log(`${action} done`);
  } catch (error) {
    console.log(`${action} failed: ${explain(error)}`);
  }
}
