import { ShiftvolError } from '../errors.ts';

const UNITS = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50 } as const;
const isUnit = (text: string): text is keyof typeof UNITS => Object.hasOwn(UNITS, text);

/** `20G`, `512MiB`, `1.5T` or plain bytes, in bytes; units are powers of 1024. @throws SV_USAGE naming `field` */
export function parseSize(text: string, field: string): number {
  const found = /^(\d{1,16}(?:\.\d{1,6})?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim());
  const unit = (found?.[2] ?? '').toLowerCase();
  const size = found !== null && isUnit(unit) ? Math.round(Number(found[1]) * UNITS[unit]) : Number.NaN;
  if (Number.isSafeInteger(size) && size > 0) return size;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot use the size ${JSON.stringify(text)}: accepted is a number with K, M, G, T or P, as "20G"`,
    {
      field,
    },
  );
}
