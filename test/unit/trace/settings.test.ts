import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { traceSettings } from '../../../src/trace/settings.ts';

const OFF = { otlpEndpoint: null, sampleRatio: 1, serviceName: 'shiftvol' };
const ON = { ...OFF, otlpEndpoint: 'http://collector:4318', sampleRatio: 0.25 };

test('there are no traces unless an endpoint is named', () => {
  assert.equal(traceSettings(OFF, {}), undefined);
  assert.deepEqual(traceSettings(ON, {}), {
    url: 'http://collector:4318/v1/traces',
    sampleRatio: 0.25,
    serviceName: 'shiftvol',
    timeoutMs: 3000,
    warnings: [],
  });
});

test('OpenTelemetry’s variables go before the configuration, and those of traces before those of all', () => {
  const url = (env: Record<string, string>, config: Parameters<typeof traceSettings>[0] = ON) =>
    traceSettings(config, env)?.url;

  assert.equal(url({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:4318/' }, OFF), 'http://other:4318/v1/traces');
  assert.equal(url({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:4318/below' }), 'http://other:4318/below/v1/traces');
  assert.equal(
    url({
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://whole/path',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:4318',
    }),
    'https://whole/path',
  );
  assert.equal(url({ OTEL_SDK_DISABLED: 'TRUE' }), undefined);
  assert.equal(url({ OTEL_TRACES_EXPORTER: 'none' }), undefined);
  const named = traceSettings(ON, {
    OTEL_SERVICE_NAME: 'volumes',
    OTEL_TRACES_SAMPLER_ARG: '0.5',
    OTEL_EXPORTER_OTLP_TIMEOUT: '9000',
  });
  assert.deepEqual([named?.serviceName, named?.sampleRatio, named?.timeoutMs], ['volumes', 0.5, undefined]);
  assert.equal(traceSettings(ON, { OTEL_TRACES_SAMPLER: 'always_on' })?.sampleRatio, 1);
  assert.equal(traceSettings(ON, { OTEL_TRACES_SAMPLER: 'parentbased_always_off' })?.sampleRatio, 0);
});

test('what is asked for and not done is said', () => {
  const warned = (env: Record<string, string>) => traceSettings(ON, env)?.warnings.join();

  assert.match(warned({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }) ?? '', /http\/json/);
  assert.match(warned({ OTEL_TRACES_SAMPLER_ARG: 'many' }) ?? '', /0 to 1/);
  assert.match(warned({ OTEL_TRACES_SAMPLER: 'jaeger_remote' }) ?? '', /parentbased_/);
});

test('an endpoint that is none is refused by its variable, and not shown: it may have a password', () => {
  for (const url of [
    'collector:4318',
    'http://me:pw-s3cret@collector:4318',
    'ftp://pw-s3cret',
    'http://c/?t=pw-s3cret',
  ])
    assert.throws(
      () => traceSettings(ON, { OTEL_EXPORTER_OTLP_ENDPOINT: url }),
      error =>
        isError(error, 'SV_CONFIG') &&
        /OTEL_EXPORTER_OTLP_ENDPOINT/.test(error.message) &&
        !`${error.message} ${error.remedy}`.includes('pw-s3cret'),
      url,
    );
});
