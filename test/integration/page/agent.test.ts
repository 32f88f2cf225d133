/** The page of a real agent: with attachments in a real container, a broker with a dead letter, and `shiftvol ui` with an agent and without. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { type Agent, CLI, makeWorld, type World } from '../../e2e/world.ts';
import { type Chromium, startChromium } from '../../rig/chromium.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';
import { freePort } from '../../rig/ports.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { rawChannel } from '../bus/helpers.ts';

const ROWS = '#view-attachments .vt-body .vt-row';
let world: World;
let rabbit: Rabbit;
let browser: Chromium;
let agent: Agent;
let url: string;
let clean: HostState;

before(async () => {
  [world, rabbit, browser] = await Promise.all([makeWorld(), startRabbit(), startChromium()]);
  await world.addTemplate('web', { files: 20, fsType: 'xfs' });
  await world.lxd.launch('c1');
  await (await world.engine())[Symbol.asyncDispose]();
  // What the tests themselves put there.
  writeFileSync(join(world.dir, 'junk.raw'), Buffer.alloc(1 << 20, 'junk'));
  writeFileSync(join(world.dir, 'plugin.yaml'), '');
  clean = hostState(world.dir);
  const port = await freePort();
  agent = await world.agent(
    `http: {listen: "127.0.0.1:${port}", page: true}\nbus: {listen: ["${rabbit.url}"], url: "${rabbit.url}"}\n`,
  );
  url = `http://127.0.0.1:${port}/page/`;
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  await browser?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

async function done(...args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await world.cli(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
}

test('an attach and a detach are seen while they happen, with their steps, ids and what they share', async () => {
  await using page = await browser.open(url);
  await page.until(`document.querySelector('#status').className.includes('live')`);

  await done('attach', 'c1', 'web:/mnt/data', '--snapshot');
  await page.until(`document.querySelector('${ROWS} .state')?.textContent === 'attached'`);
  assert.match(await page.text(ROWS), /c1\s+\/mnt\/data\s+web\s+b:0:\d+:\d+/);
  await page.click(ROWS);
  await page.until(`document.querySelectorAll('.steps tbody tr').length >= 4`);
  const told = await page.text('.panel');
  assert.match(told, /attach done in [\d.]+ ms/);
  for (const step of ['snapshot', 'device', 'mount', 'handoff'])
    assert.match(told, new RegExp(`${step}\\s+[\\d.]+ ms`));
  // The way to a mount is root's to know.
  assert.doesNotMatch(await page.evaluate('document.body.textContent'), new RegExp(world.runDir));

  await page.press('2');
  await page.until(`/containers/.test(document.querySelector('#view-ids').innerText)`);
  assert.match(await page.text('#view-ids'), /alive\s+init|alive/);
  await page.press('4');
  await page.until(`document.querySelector('#view-templates tbody tr')`);
  assert.match(await page.text('#view-templates'), /web\s+xfs[\s\S]* shared, [\d.]+ \w+ own\s+1\s+[\d.]+ \w+ shared/);
  await page.press('1');

  await done('detach', 'c1:/mnt/data');
  await page.until(`document.querySelector('${ROWS} .state')?.textContent === 'detached'`);
  await page.until(`document.querySelector('.panel').innerText.includes('undo mount')`);
  await done('destroy', 'c1', '/mnt/data');
  await page.until(`document.querySelectorAll('${ROWS}').length === 0`);
  assert.deepEqual(page.complaints, []);
});

test('an attach that fails is a run with its error', async () => {
  const junk = join(world.dir, 'junk.raw');
  await using page = await browser.open(`${url}#runs`);
  await page.until(`document.querySelector('#status').className.includes('live')`);

  assert.notEqual((await world.cli('attach', 'c1', `${junk}:/mnt/junk`)).code, 0);

  await page.until(`document.querySelector('#view-runs .vt-body .state.bad')`);
  await page.click('#view-runs .vt-body .vt-row[aria-rowindex="2"]');
  await page.until(`/attach failed[\\s\\S]*SV_\\w+/.test(document.querySelector('.panel').innerText)`);
});

test('a dead letter is shown with its reason, and goes back into its queue for whoever has the token', async () => {
  await using raw = await rawChannel(rabbit.url);
  const { channel } = raw;
  // What no agent can read.
  channel.sendToQueue('shiftvol.node1', Buffer.from('{"oslo.message": "<img src=x onerror=alert(1)>"}'), {
    contentType: 'application/json',
  });
  await channel.waitForConfirms();
  await using page = await browser.open(`${url}#dead-letters`);
  const row = '.letters tbody tr';
  for (let i = 0; i < 20 && (await page.evaluate<number>(`document.querySelectorAll('${row}').length`)) === 0; i++) {
    await page.evaluate(
      `new Promise(done => setTimeout(done, 600)).then(() => document.querySelector('#view-dead-letters .toolbar button').click())`,
    );
  }
  assert.match(await page.text(row), /event_type: .*SV_MESSAGE/s);

  const file = join(world.stateDir, 'http.token');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  await page.click(`${row} input`);
  await page.click('#view-dead-letters .primary');
  await page.until(`document.querySelector('#token-input')`);
  await page.type(readFileSync(file, 'utf8').trim());
  await page.press('Enter');
  await page.until(`document.querySelector('#view-dead-letters [role=status]').innerText.includes('put back')`);
  assert.doesNotMatch(agent.log(), new RegExp(readFileSync(file, 'utf8').trim()));
});

/** `shiftvol ui` as a process of its own: its link, and its end. */
async function ui(): Promise<AsyncDisposable & { readonly link: string }> {
  const child = spawn(process.execPath, [CLI, 'ui'], { env: world.env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise(resolve => child.once('close', resolve));
  let link = '';
  for await (const line of createInterface(child.stdout)) {
    link = line;
    break;
  }
  return {
    link,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

test('ui shows the same of an agent without a page, and of a journal without an agent', async () => {
  await agent.kill('SIGTERM');
  await done('attach', 'c1', 'web:/mnt/data', '--snapshot');

  await using alone = await ui();
  assert.match(alone.link, /^http:\/\/127\.0\.0\.1:\d+\/page\/#once=[\w-]{32}$/);
  await using page = await browser.open(alone.link);
  await page.until(`document.querySelector('${ROWS} .state')?.textContent === 'attached'`);
  await done('detach', 'c1:/mnt/data');
  await page.until(`document.querySelector('${ROWS} .state')?.textContent === 'detached'`);

  agent = await world.agent('http: {page: false}\n');
  await done('attach', 'c1', 'web:/mnt/data', '--snapshot');
  await page.until(`document.querySelector('${ROWS} .state')?.textContent === 'attached'`);
  await done('detach', 'c1:/mnt/data');
  await page.click(ROWS);
  await page.until(`document.querySelector('.panel').innerText.includes('undo handoff')`);
  await page.press('2');
  await page.until(`document.querySelector('#view-ids .vt-body .vt-row')`);
  await done('destroy', 'c1', '/mnt/data');
});

test('nothing is left', async () => {
  await agent.kill('SIGTERM');
  await assertHostUnchanged(clean);
});
