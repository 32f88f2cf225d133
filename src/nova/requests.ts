/** Nova's request in what the engine tells of its commands. */
import type { Command } from '../engine/model.ts';
import type { Call, Nova, NovaEngine } from './ports.ts';

/** Of this process, begun where no earlier one can have come to. */
let commands = Date.now() * 1000;

/** What a call has done, the engine tells under the request of the call. */
export function underRequest(nova: Nova, call: Call): Nova {
  if (call.requestId === undefined) return nova;
  const { engine } = nova;
  const told: NovaEngine = {
    execute: async (command, signal, tells) =>
      await engine.execute({ ...command, ...requestOf(call, command) }, signal, tells),
    swapVolume: async (request, signal) =>
      await engine.swapVolume({ ...request, ...requestOf(call, { action: 'swap', ...request }) }, signal),
    list: key => engine.list(key),
    noteMove: async (move, signal) =>
      await engine.noteMove({ ...move, ...requestOf(call, { action: 'move', ...move }) }, signal),
    reserveIds: async (...args) => await engine.reserveIds(...args),
    releaseIds: async (...args) => await engine.releaseIds(...args),
  };
  return { ...nova, engine: told };
}

type About = Pick<Command, 'instance'> & { readonly action: string; readonly volumeId?: string };

/**
 * `attach/INSTANCE/VOLUME/req-…#N`. One request makes several commands, some of them again after they were taken back: N is another one for
 * each, since the engine does what it has an id of only once.
 */
export function requestOf({ requestId }: Call, { action, instance, volumeId }: About): { readonly requestId?: string } {
  if (requestId === undefined) return {};
  const about = [action, instance.ref, ...(volumeId === undefined ? [] : [volumeId])];
  return { requestId: `${[...about, requestId.replaceAll('/', '_')].join('/')}#${commands++}` };
}
