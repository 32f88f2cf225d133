import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Recovery } from '../../../src/cli/recovery.ts';
import type { Attachment, AttachmentId, InstanceKey } from '../../../src/engine/model.ts';
import type { Recovered } from '../../../src/engine/recover.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import type { Log } from '../../../src/log/log.ts';

const NOTHING: Recovered = { dryRun: false, tasks: [], attachments: [], leftovers: [] };
const LEFT: Recovered = {
  ...NOTHING,
  attachments: [
    {
      attachment: 'a1' as AttachmentId,
      instance: 'c1' as InstanceKey,
      target: '/mnt',
      was: 'attached',
      did: 'left',
      error: { code: 'SV_TIMEOUT', message: 'the server is away' },
    },
  ],
};

function logInto(lines: string[]): Log {
  const write = (text: string) => void lines.push(text);
  return { error: write, warn: write, info: write, debug: write } as unknown as Log;
}
const until = async (is: () => boolean) => {
  while (!is()) await new Promise(resolve => setTimeout(resolve, 1));
};

test('storage that is away does not keep the agent from its work, and what recover says of it is told later', async () => {
  const lines: string[] = [];
  const { promise: answered, resolve: answer } = Promise.withResolvers<Recovered>();
  await using recovery = new Recovery({ recover: () => answered, list: () => [] }, logInto(lines), { firstMs: 5 });

  assert.equal(await recovery.first(), false);
  assert.match(lines[0] ?? '', /still waits/);
  answer(LEFT);
  await until(() => lines.length > 1);
  assert.match(lines[1] ?? '', /left it: the server is away/);
});

test('what fails at once keeps the agent from starting', async () => {
  const recover = async () => {
    throw new ShiftvolError('SV_STORE', 'Cannot use the journal');
  };
  await using recovery = new Recovery({ recover, list: () => [] }, logInto([]));

  await assert.rejects(recovery.first(), /journal/);
});

test('what waits for somebody is tried again, one try at a time', async () => {
  let tries = 0;
  let atOnce = 0;
  const recover = async () => {
    assert.equal(++atOnce, 1);
    await new Promise(resolve => setTimeout(resolve, 10));
    atOnce--;
    tries++;
    return NOTHING;
  };
  const open = [{ status: { state: 'undoing' } }] as unknown as readonly Attachment[];
  await using recovery = new Recovery({ recover, list: () => open }, logInto([]), { retryMs: 1 });

  assert.equal(await recovery.first(), true);
  await until(() => tries > 3);
});

test('a volume that could not be mounted is tried again too, less often; the end of the agent cuts that off', async () => {
  let tries = 0;
  const recover = async ({ signal }: { signal: AbortSignal }) => {
    tries++;
    if (tries > 2) await new Promise(resolve => signal.addEventListener('abort', resolve));
    return LEFT;
  };
  {
    await using recovery = new Recovery({ recover, list: () => [] }, logInto([]), { retryMs: 1 });
    await recovery.first();
    await until(() => tries > 2);
  }
  assert.equal(tries, 3);
});
