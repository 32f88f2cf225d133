import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { socketPath } from '../../src/cli/engine-client.ts';
import type { Command } from '../../src/engine/model.ts';
import type { ErrorReport } from '../../src/errors.ts';
import type { ApiRequest } from '../../src/http/api.ts';
import type { AttachmentView } from '../../src/http/view.ts';
import type { World } from './world.ts';

export type Answer = { readonly result?: unknown; readonly error?: ErrorReport };

/** One question to the agent's socket. Undefined where the agent died over it, or was not there. */
export async function ask(world: World, question: ApiRequest): Promise<Answer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
  // No connection is kept: the agent closes one that nobody used for 5 s, perhaps at the moment of the next question.
  const where = { socketPath: socketPath(world.runDir), path: '/v1/call', method: 'POST', agent: false };
  const call = request(where, response => {
    text(response).then(
      body => resolve(JSON.parse(body) as Answer),
      () => resolve(undefined),
    );
  });
  call.once('error', () => resolve(undefined));
  call.end(JSON.stringify(question));
  return await promise;
}

export function execute(world: World, body: Command): Promise<Answer | undefined> {
  return ask(world, { command: 'execute', body });
}

export async function list(world: World): Promise<readonly AttachmentView[]> {
  const answer = await ask(world, { command: 'list' });
  if (!answer?.result) throw new Error(`list: ${JSON.stringify(answer)}`);
  return answer.result as readonly AttachmentView[];
}
