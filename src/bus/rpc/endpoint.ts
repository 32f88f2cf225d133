/** What is offered to callers in Python: methods by name, and errors that they catch by class. */

/** Keyword arguments, as the caller gave them: not checked in any way. */
export type RpcArgs = Readonly<Record<string, unknown>>;

/** What a method knows of its call. No token of the user's context is in it. */
export type RpcCall = {
  readonly method: string;
  readonly requestId?: string;
  readonly globalRequestId?: string;
  readonly userId?: string;
  readonly projectId?: string;
  /** Aborted when the agent has to end now. Not when the caller is gone: what was begun is brought to its end. */
  readonly signal: AbortSignal;
};

/**
 * Resolves with what the caller gets; it has to survive JSON.stringify, and undefined is None. A cast's outcome is thrown away.
 * @throws RemoteError: the caller gets just that. All else becomes an exception of module "shiftvol"; see failure.ts
 */
export type RpcMethod = (args: RpcArgs, call: RpcCall) => Promise<unknown>;

export type RpcEndpoint = {
  /** Absent: the namespace None. */
  readonly namespace?: string;
  /** The highest that is understood: "1.3" takes 1.0 to 1.3. */
  readonly version: string;
  /** A name that begins with "_" is never called. */
  readonly methods: ReadonlyMap<string, RpcMethod>;
  /** Those of them that only look, in milliseconds: they do not wait for the others. Default: none. */
  readonly quick?: ReadonlySet<string>;
};

type RemoteFacts = {
  /** Default: `nova.exception`, the only one that Nova rebuilds. */
  readonly module?: string;
  /** What the class is built with; default: the message alone. */
  readonly args?: readonly unknown[];
  /** Fields that the class takes: `{ instance_id: … }`. */
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
};

/**
 * An error that a Python caller catches by its class: `module` must be one that it allows (Nova: `nova.exception`) or `builtins`, else
 * it gets an oslo_messaging.RemoteError with `exc_type` = `className`. The cause stays here.
 */
export class RemoteError extends Error {
  readonly module: string;
  readonly className: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;

  constructor(className: string, message: string, facts: RemoteFacts = {}) {
    super(message, 'cause' in facts ? { cause: facts.cause } : undefined);
    this.name = 'RemoteError';
    this.module = facts.module ?? 'nova.exception';
    this.className = className;
    this.args = facts.args ?? [message];
    this.kwargs = facts.kwargs ?? {};
  }
}

/** What Python raises where a function is called with arguments that it does not take. */
export function argumentError(message: string): RemoteError {
  return new RemoteError('TypeError', message, { module: 'builtins' });
}
