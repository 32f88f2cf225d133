/** What was told, and what may be found after a cut because of it. */

/** Where the journal and the snapshots lie: a pool of shiftvol's own making, on another file system than the journal; or one for both. */
export const LAYOUTS = ['pool', 'xfs', 'btrfs'] as const;
export type Layout = (typeof LAYOUTS)[number];

export type Action = 'attach' | 'detach' | 'destroy';
export type State = 'none' | 'attached' | 'detached';

/** One instance's target. */
export type Place = {
  readonly name: string;
  readonly state: State;
  /** Which one its snapshot is of those that this place has had, and how many records in it are on the disk. */
  readonly life: number;
  readonly records: number;
  /** Asked for, and not answered. */
  readonly asked?: Action;
};

export type Told =
  | { readonly told: 'ready' }
  | { readonly told: 'asked'; readonly place: string; readonly action: Action }
  | { readonly told: 'done'; readonly place: string; readonly action: Action }
  | { readonly told: 'wrote'; readonly place: string };

/** A disk to be looked at: `/dev/vdc`. */
export type Cut = { readonly device: string; readonly layout: Layout; readonly places: readonly Place[] };

export type Found = {
  /** Attachments that recover had something to do for. */
  readonly recovered: readonly string[];
  /** Of each snapshot that recover does not know, what had been told of its place. */
  readonly leftovers: readonly string[];
  readonly ms: number;
  /** Promises that were broken. */
  readonly wrong: readonly string[];
};

export const PLACES: readonly Place[] = ['a', 'b', 'c'].flatMap(instance =>
  ['/one', '/two'].map(target => ({ name: `${instance}:${target}`, state: 'none', life: 0, records: 0 }) as const),
);

export function after(action: Action): State {
  return ({ attach: 'attached', detach: 'detached', destroy: 'none' } as const)[action];
}

export function hear(place: Place, told: Exclude<Told, { told: 'ready' }>): Place {
  switch (told.told) {
    case 'wrote':
      return { ...place, records: place.records + 1 };
    case 'asked':
      // Another life begins where there was none.
      return told.action === 'attach' && place.state === 'none'
        ? { ...place, asked: told.action, life: place.life + 1, records: 0 }
        : { ...place, asked: told.action };
    case 'done': {
      const { asked: _, ...rest } = place;
      return { ...rest, state: after(told.action) };
    }
    default:
      return told satisfies never;
  }
}

/** Once recover has ended what was under way. */
export function mayBe({ state, asked }: Place): readonly State[] {
  return asked === undefined ? [state] : [state, after(asked)];
}

/** The first sector of the disk's last MiB, where no file system is: what is told is written there, so that the log of writes has it in its order. */
export const TOLD_AT = { fromEnd: 2 ** 20, bytes: 512 } as const;
