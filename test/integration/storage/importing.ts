/** What tests of imports share: a refusal that leaves nothing, and damage. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { isError } from '../../../src/errors.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import type { ImportRequest } from '../../../src/storage/import/request.ts';
import type { RigPool } from '../../rig/pool.ts';
import { hostState } from './host-state.ts';

/** Nothing of the attempt is left. */
export async function refuses(
  pool: RigPool,
  request: ImportRequest,
  code: Parameters<typeof isError>[1],
  text = /./,
): Promise<void> {
  const before = hostState(pool.poolDir);
  await assert.rejects(
    importTemplate(pool, request),
    e => {
      assert.ok(code && isError(e, code) && text.test(e.message), `${JSON.stringify(request)}: ${e}`);
      return true;
    },
    JSON.stringify(request),
  );
  assert.deepEqual(hostState(pool.poolDir), before);
}

/** Bytes turned around, so that they are surely different. */
export function scribble(path: string, start: number, count: number): void {
  const fd = openSync(path, 'r+');
  const bytes = Buffer.alloc(count);
  readSync(fd, bytes, 0, count, start);
  writeSync(
    fd,
    bytes.map(b => ~b & 0xff),
    0,
    count,
    start,
  );
  closeSync(fd);
}
