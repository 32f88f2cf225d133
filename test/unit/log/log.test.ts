import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { logOptions } from '../../../src/log/log.ts';

const url = (path: string) => JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);

/** What a process writes that logs in the middle of an attach, and after it. */
function lines(format: string): readonly string[] {
  const script = `
    const { createLog, logSteps } = await import(${url('log/log.ts')});
    const { asked, commandChannel } = await import(${url('engine/channels.ts')});
    const { EventMaker } = await import(${url('engine/events.ts')});
    const log = createLog({ level: 'info', format: ${JSON.stringify(format)} });
    using _steps = logSteps(log);
    const command = { action: 'detach', instance: { ref: 'i-1' }, requestId: 'detach/i-1/v-1/req-7#2' };
    const work = async () => {
      log.info('before');
      const events = new EventMaker(command, 'i-1', 'node1', 0);
      await Promise.resolve();
      events.start('0123456789abcdef');
      log.warn('within', { n: 1 });
    };
    await asked(() => ({ by: 'notification', name: 'x', requestId: 'req-7', instance: 'i-1' }), async () => {
      await commandChannel.tracePromise(work, { command, host: 'node1' });
      log.info('of the request', { reason: 'a\\nb \\u001b[2J' });
    });
    log.info('after');
    log.debug('not at this level');`;
  const { stderr, stdout, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  assert.deepEqual([status, stdout], [0, '']);
  return stderr.trimEnd().split('\n');
}

test('each line of a request names it, its instance and, once it is known, its attachment; a line outside names none', () => {
  const [before, within, request, after, ...more] = lines('json').map(line => JSON.parse(line));

  const about = { request_id: 'req-7', instance: 'i-1' };
  const attachment = '0123456789abcdef';
  const { timestamp, ...first } = before;
  assert.match(timestamp, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(first, { level: 'info', message: 'before', ...about });
  assert.equal(within.attachment, attachment);
  assert.deepEqual([request.request_id, request.attachment], ['req-7', attachment]);
  assert.deepEqual(Object.keys(after).toSorted(), ['level', 'message', 'timestamp']);
  assert.deepEqual(more, []);
});

test('as text it is what oslo.log writes, and what came from outside ends no line', () => {
  const [, within, request] = lines('text');

  assert.match(
    within ?? '',
    /^\S+Z \d+ WARN shiftvol \[req-7\] \[instance: i-1\] within n=1 attachment=0123456789abcdef$/,
  );
  assert.match(request ?? '', / reason=a\\x0ab \\x1b\[2J /);
});

test('for a person it is short', () => {
  assert.match(
    lines('pretty')[1] ?? '',
    /^\d\d:\d\d:\d\d\.\d{3} WARN {2}within n=1 request_id=req-7 instance=i-1 attachment=0123456789abcdef$/,
  );
});

test('options go before the configuration, which goes before what is usual', () => {
  const configured = { level: 'warn', format: null } as const;

  assert.deepEqual(logOptions(configured, {}), { level: 'warn', format: process.stderr.isTTY ? 'pretty' : 'text' });
  assert.deepEqual(logOptions({ ...configured, format: 'pretty' }, {}), { level: 'warn', format: 'pretty' });
  assert.deepEqual(logOptions({ ...configured, format: 'pretty' }, { verbose: true, json: true }), {
    level: 'debug',
    format: 'json',
  });
});
