/** Attaches the volume that stdin tells, says when its connection begins and when it is there, and then waits for its end. argv: the agent in JSON. */
import { json } from 'node:stream/consumers';
import type { WrapStep } from '../../src/engine/saga.ts';
import { Secrets } from '../../src/engine/secrets.ts';
import { type Agent, type Order, openAgent } from './killed-agent.ts';

const telling: WrapStep = step => {
  if (step.name !== 'connect') return step;
  return {
    ...step,
    do: async (input, signal) => {
      console.log('begun');
      await step.do(input, signal);
      console.log('connected');
      return await new Promise(() => undefined);
    },
  };
};

const { connection, secrets } = (await json(process.stdin)) as Order;
await using host = await openAgent(JSON.parse(process.argv[2] ?? '') as Agent, telling);
const keepAlive = setInterval(() => undefined, 1000);
await host.engine.execute(
  {
    action: 'attach',
    instance: { ref: 'c1' },
    target: '/mnt/v',
    source: { kind: 'connection', connection },
    readOnly: false,
    secrets: new Secrets(secrets),
  },
  new AbortController().signal,
);
clearInterval(keepAlive);
