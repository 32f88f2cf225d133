/** One happening to one instance, in whichever of the three forms it was told. */
/** Why a message that is all right does nothing; the label of its counter. */
export const IGNORED_REASONS = [
  'other-event',
  'switched-off',
  'other-host',
  'no-host',
  'no-instance',
  'no-image',
  'unbound-image',
  'unbound-volume',
  'ambiguous',
  'no-template',
  'nothing-there',
  'superseded',
  'still-here',
] as const;
export type IgnoredReason = (typeof IGNORED_REASONS)[number];

export type Happening = {
  /** Where it happens; null: nowhere yet. */
  readonly host: string | null;
  /** Nova's uuid. */
  readonly instance: string;
  readonly volumeId?: string;
  /** Glance's uuid; '' for an instance that was booted from a volume. */
  readonly imageId?: string;
  readonly readOnly?: boolean;
  /** What the volume has from now on. */
  readonly sizeBytes?: number;
  /** Where it was before is where it is now: a rebuild that is no evacuation. */
  readonly inPlace?: boolean;
  /** When it was told, ISO 8601. */
  readonly at?: string;
  readonly requestId?: string;
};

/** What a form's reader makes of a message. */
export type Reading =
  | { readonly kind: 'happening'; readonly happening: Happening }
  | { readonly kind: 'ignored'; readonly reason: IgnoredReason }
  | { readonly kind: 'invalid'; readonly reason: string };

/** `hosts` are ours. A reader looks at the host before all else: what is wrong with others' messages is theirs to tell. */
export type HostFilter = { readonly has: (host: string) => boolean };
