import { readFile } from 'node:fs/promises';
import { isNodeErrno } from './errno.ts';

/** A file as text; undefined where there is none. @throws what Node's fs throws of one that cannot be read */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
