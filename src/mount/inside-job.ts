/** What goes between the main thread and the one that enters mount namespaces. Descriptors are numbers of the whole process. */

export type InsideJob = {
  readonly id: number;
  /** /proc/PID/ns/mnt and /proc/PID/root of the process whose view is meant. */
  readonly namespaceFd: number;
  readonly rootFd: number;
  /** Absolute, as the container sees it. */
  readonly parent: string;
  readonly name: string;
  /** `7:3`, as statx tells it. */
  readonly major: number;
  readonly minor: number;
  readonly lazy: boolean;
  /** May the way to the parent lead over other mounts? A FUSE mount of the container on it could keep the thread for ever. */
  readonly crossMounts: boolean;
};

export const INSIDE_STEPS = ['setns', 'parent', 'target', 'statx', 'fchdir', 'umount2'] as const;

/** `other`: something else, or nothing, is mounted there. `failed` names the call and its errno. */
export type InsideResult =
  | { readonly id: number; readonly state: 'done' }
  | { readonly id: number; readonly state: 'other' }
  | {
      readonly id: number;
      readonly state: 'failed';
      readonly step: (typeof INSIDE_STEPS)[number];
      readonly errno: number;
    };
