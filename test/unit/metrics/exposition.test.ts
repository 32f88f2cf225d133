import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listen } from '../../../src/http/listener.ts';
import { newMetrics, setCounter } from '../../../src/metrics/client.ts';
import { asOpenMetrics, metricsRoute, wantsOpenMetrics } from '../../../src/metrics/exposition.ts';

test('OpenMetrics is given to who prefers it, plain text to everybody else', () => {
  const prometheus2 =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  const yes = [prometheus2, 'application/openmetrics-text', 'text/plain;q=0.5, application/openmetrics-text; q=0.5'];
  const no = [
    undefined,
    '',
    '*/*',
    'text/plain',
    'text/html,*/*;q=0.8',
    'text/plain, application/openmetrics-text;q=0.9',
  ];
  const not = ['application/openmetrics-text;q=0', 'application/openmetrics-text;version=0.0.1'];

  for (const accept of yes) assert.equal(wantsOpenMetrics(accept), true, accept);
  for (const accept of [...no, ...not]) assert.equal(wantsOpenMetrics(accept), false, accept);
});

test('a counter’s family loses its "_total" there, its samples and other families keep theirs', () => {
  const text = [
    '# HELP a_total A.',
    '# TYPE a_total counter',
    'a_total{x="1"} 2',
    '',
    '# HELP b_total No counter.',
    '# TYPE b_total gauge',
    'b_total 3',
    '',
  ].join('\n');

  assert.equal(
    asOpenMetrics(text),
    '# HELP a A.\n# TYPE a counter\na_total{x="1"} 2\n# HELP b_total No counter.\n# TYPE b_total gauge\nb_total 3\n# EOF\n',
  );
});

test('scrapes at the same time are one, and the format of one is not that of the next', async () => {
  const metrics = newMetrics();
  const counter = metrics.counter('things_total', 'Things.', ['kind']);
  let updates = 0;
  const route = metricsRoute(metrics, async () => {
    updates++;
    setCounter(counter, [[{ kind: 'x' }, 7]]);
  });
  await using server = await listen({ address: '127.0.0.1:0', routes: [route] });
  const scrape = async (accept: string) => {
    const response = await fetch(`${server.url}/metrics`, { headers: { accept } });
    return `${response.headers.get('content-type')}\n${await response.text()}`;
  };

  const both = await Promise.all([scrape('application/openmetrics-text'), scrape('text/plain')]);
  const later = await scrape('text/plain');

  assert.match(
    both[0],
    /^application\/openmetrics-text; version=1\.0\.0.*# TYPE things counter\nthings_total\{kind="x"\} 7\n# EOF\n$/s,
  );
  assert.match(both[1], /^text\/plain; version=0\.0\.4.*# TYPE things_total counter\nthings_total\{kind="x"\} 7\n/s);
  assert.equal(later, both[1]);
  assert.ok(updates <= 3 && updates >= 2);
});

test('a scrape that fails does not keep the next from being made', async () => {
  let fails = true;
  const route = metricsRoute(newMetrics(), async () => {
    if (fails) throw new Error('not now');
  });
  await using server = await listen({ address: '127.0.0.1:0', routes: [route] });

  assert.equal((await fetch(`${server.url}/metrics`)).status, 500);
  fails = false;
  assert.equal((await fetch(`${server.url}/metrics`)).status, 200);
});
