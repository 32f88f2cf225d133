import { accessSync, constants } from 'node:fs';

/** Debian's package; Google's; what Ubuntu has is a snap. */
const PROGRAMS = [
  '/usr/bin/chromium',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/snap/bin/chromium',
] as const;

/** The browser that the tests of the page drive: $SHIFTVOL_CHROMIUM, else the first that is there. */
export function findBrowser(): string {
  const found = browserThere();
  if (found === undefined)
    throw new Error(`Cannot look at the page: none of ${PROGRAMS.join(', ')} is there; set $SHIFTVOL_CHROMIUM to one`);
  return found;
}

export function browserThere(): string | undefined {
  return [process.env['SHIFTVOL_CHROMIUM'], ...PROGRAMS].find(path => path !== undefined && isProgram(path));
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
