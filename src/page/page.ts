/** The page's parts put together: what is shown of a source, and to whom. */
import type { Route } from '../http/listener.ts';
import { Feed } from './feed.ts';
import { idRows } from './id-space.ts';
import { pageRoutes } from './routes.ts';
import { attachmentRow, cut, runRow } from './rows.ts';
import type { PageSource } from './source.ts';
import type { OnceLink, Token } from './token.ts';

export type PageOptions = {
  readonly source: PageSource;
  readonly token: Token;
  /** Looking is for those who open this link, too. */
  readonly link?: OnceLink;
  /** Nobody looks any more. */
  onNobody?(): void;
  /** What could not be read, once a time. */
  onError(section: string, error: unknown): void;
};

/** Does nothing until somebody looks. Disposing ends what is done for them. */
export function makePage(
  options: PageOptions,
): Disposable & { readonly routes: readonly Route[]; readonly feed: Feed } {
  const { source, token, link } = options;
  const feed = new Feed({
    facts: { host: source.host, canAct: source.deadLetters !== undefined, isPrivate: link !== undefined },
    watch: changed => source.watch(changed),
    onError: options.onError,
    onNobody: () => options.onNobody?.(),
    sections: [
      {
        name: 'attachments',
        grouped: true,
        idleMs: 60_000,
        restMs: 0,
        read: async (groups, signal) =>
          (await source.attachments(groups, signal)).map(view => ({
            key: view.id,
            group: view.instance,
            value: attachmentRow(view),
          })),
      },
      {
        name: 'runs',
        grouped: false,
        idleMs: 60_000,
        restMs: 0,
        read: async (_groups, signal) =>
          (await source.runs(signal)).map(run => ({ key: String(run.id), group: '', value: runRow(run) })),
      },
      {
        name: 'ids',
        grouped: false,
        idleMs: 10_000,
        // Thousands of rows, which an attach seldom changes.
        restMs: 5000,
        read: async (_groups, signal) => {
          const rows = idRows(await source.claims(signal));
          return rows.map(row => {
            const owner = cut(row.owner);
            const key = `${row.kind} ${row.lane} ${row.start} ${row.count} ${owner}`;
            return { key, group: '', value: { key, ...row, owner } };
          });
        },
      },
    ],
  });
  const routes = pageRoutes({ source, feed, token, ...(link && { link }) });
  return { routes, feed, [Symbol.dispose]: () => feed[Symbol.dispose]() };
}
