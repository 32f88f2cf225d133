/** What is made of many measurements. */

/** The value below which `share` (0 to 1) of the values lie, between two of them in proportion. @throws where there are none */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  if (low === undefined || high === undefined) throw new Error('Cannot take the quantile of no values');
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);
export const p99 = (values: readonly number[]): number => quantile(values, 0.99);

/**
 * The median of the ratios of what was measured one right after the other. A slow moment of the machine falls on both of a pair; a
 * ratio of two medians would compare one's good moments with the other's bad ones.
 */
export function pairedRatio(ours: readonly number[], peer: readonly number[]): number {
  if (ours.length !== peer.length) throw new Error(`Cannot pair ${ours.length} values with ${peer.length}`);
  return median(ours.map((value, i) => value / (peer[i] ?? Number.NaN)));
}

/** Three digits that count: 0.123, 4.57, 123. */
export function round(value: number): number {
  return Number(value.toPrecision(value >= 1000 ? 4 : 3));
}
