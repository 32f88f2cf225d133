/** The page of the agent: its routes for the port that `http.listen` opens. Loaded where it is wanted. */
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { Engine } from '../engine/engine.ts';
import { explain } from '../errors.ts';
import type { Route } from '../http/listener.ts';
import type { Log } from '../log/log.ts';
import { makePage } from '../page/page.ts';
import { readToken, Token } from '../page/token.ts';
import { burstChannel } from './memory.ts';
import { engineSource } from './page-source.ts';

/** @throws SV_CONFIG: the token's file is not for us alone */
export function agentPage(
  config: Config,
  engine: Engine,
  log: Log,
): Disposable & { readonly routes: readonly Route[] } {
  const token = new Token(readToken(config.http.tokenFile ?? join(config.stateDir, 'http.token')));
  // What was done before somebody looks is to be seen, too.
  const kept = engine.runs.keep();
  const page = makePage({
    source: engineSource(config, engine),
    token,
    onNobody: () => burstChannel.publish({}),
    onError: (section, error) => log.warn(`the page cannot show ${section}: ${explain(error)}`),
  });
  return {
    routes: page.routes,
    [Symbol.dispose]() {
      page[Symbol.dispose]();
      kept[Symbol.dispose]();
    },
  };
}
