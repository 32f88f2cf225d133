/** What agents tell each other in the middle of a move, as casts over the bus: whoever does not hear them moves all the same, with a longer standstill. */

export const PEER_METHODS = ['receive_first_pass', 'forget_first_pass', 'instance_leaves'] as const;
export type PeerMethod = (typeof PEER_METHODS)[number];

export interface Peers {
  /** Resolves when it waits in that host's queue. @throws SV_BUS: there is no such host, or no connection */
  tell(host: string, method: PeerMethod, args: Readonly<Record<string, unknown>>): Promise<void>;
}
