/** What bus tells, and to whom: winston's logger satisfies it. Ids and names only, never a payload or a context. */
export type Log = {
  readonly info: (message: string, fields?: object) => unknown;
  readonly warn: (message: string, fields?: object) => unknown;
  readonly error: (message: string, fields?: object) => unknown;
  readonly debug: (message: string, fields?: object) => unknown;
};
