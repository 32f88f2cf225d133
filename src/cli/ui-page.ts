/** `shiftvol ui`: the page, for whoever has its link, until a signal ends it. */
import type { Config } from '../config/schema.ts';
import { explain, ShiftvolError } from '../errors.ts';
import { listen } from '../http/listener.ts';
import { openBrowser } from '../page/open-browser.ts';
import { makePage } from '../page/page.ts';
import { newToken, OnceLink, Token } from '../page/token.ts';
import { hostSource } from './page-source.ts';
import { stopOnSignals } from './signals.ts';

export type UiOptions = { readonly open?: boolean; readonly listen: string; readonly json?: boolean };

/** @throws SV_USAGE: not an address of loopback; SV_CONFIG: it cannot be listened there; SV_HOST: not root */
export async function showPage(config: Config, options: UiOptions): Promise<void> {
  // The link's secret goes over it in the clear.
  if (!/^(?:127(?:\.\d{1,3}){3}|\[::1\]):\d{1,5}$/.test(options.listen))
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot listen on ${JSON.stringify(options.listen)}: 127.0.0.1:PORT and [::1]:PORT are accepted`,
      { field: '--listen', remedy: 'from afar, go through ssh -L' },
    );
  if (process.geteuid?.() !== 0)
    throw new ShiftvolError('SV_HOST', 'Cannot look into the state of this host: permission denied', {
      remedy: 'run it as root',
    });
  using stop = stopOnSignals();
  const token = newToken();
  const link = new OnceLink(token);
  using page = makePage({
    source: hostSource(config),
    token: new Token(token),
    link,
    onError: (section, error) => process.stderr.write(`shiftvol: cannot show ${section}: ${explain(error)}\n`),
  });
  await using listener = await listen({ address: options.listen, routes: page.routes });
  // Behind the #: no browser sends it anywhere.
  const url = `${listener.url}/page/#once=${link.secret}`;
  process.stdout.write(options.json ? `${JSON.stringify({ url })}\n` : `${url}\n`);
  if (options.open && !(await openBrowser(url)))
    process.stderr.write('shiftvol: there is no browser here that could be started; open the link above\n');
  if (stop.signal.aborted) return;
  await new Promise(resolve => stop.signal.addEventListener('abort', resolve, { once: true }));
}
