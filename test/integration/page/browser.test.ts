/** The page in a real browser, over a host that is not there: what is in the document, what a keyboard does, what hostile texts do. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '../../../src/http/listener.ts';
import { makePage } from '../../../src/page/page.ts';
import { OnceLink, Token } from '../../../src/page/token.ts';
import { type Chromium, type OpenOptions, type Page, startChromium } from '../../rig/chromium.ts';
import { DemoHost } from '../../rig/page-demo.ts';

const TOKEN = 'correct-horse-battery-staple';
const ROWS = '#view-attachments .vt-body .vt-row';
const HOSTILE = '<img src=x onerror="document.title=\'pwned\'"><script>document.title="pwned"</script>';

let browser: Chromium;
before(async () => {
  browser = await startChromium();
});
after(async () => await browser?.[Symbol.asyncDispose]());

type Served = AsyncDisposable & { readonly url: string; readonly source: DemoHost; readonly link: OnceLink };
async function serve(count: number, { isPrivate = false, address = '127.0.0.1:0' } = {}): Promise<Served> {
  const source = new DemoHost(count);
  const link = new OnceLink(TOKEN);
  const page = makePage({ source, token: new Token(TOKEN), onError: () => undefined, ...(isPrivate && { link }) });
  const listener = await listen({ address, routes: page.routes });
  return {
    url: listener.url,
    source,
    link,
    async [Symbol.asyncDispose]() {
      page[Symbol.dispose]();
      await listener[Symbol.asyncDispose]();
    },
  };
}

async function shown(served: Served, options: OpenOptions = {}): Promise<Page> {
  const page = await browser.open(`${served.url}/`, options);
  await page.until(`document.querySelector('${ROWS}')`);
  return page;
}
const count = (page: Page, selector: string) =>
  page.evaluate<number>(`document.querySelectorAll('${selector}').length`);
const cell = (page: Page, name: string) =>
  page.evaluate<string>(`document.querySelector('${ROWS}[aria-rowindex="2"] .${name}').textContent`);
/** Nothing was refused, nothing thrown, and nobody else was asked. A password field outside of a form is no complaint. */
function assertQuiet(page: Page, served: Served): void {
  assert.deepEqual(
    page.complaints.filter(text => !text.startsWith('verbose: ')),
    [],
  );
  assert.deepEqual(
    page.requests.filter(url => !url.startsWith(`${served.url}/`)),
    [],
  );
}

test('of 4,000 rows those are in the document that are to be seen, wherever one has scrolled to', async () => {
  await using served = await serve(4000);
  await using page = await shown(served);
  assert.match(await page.text('#tab-attachments'), /4,000/);
  assert.ok((await count(page, ROWS)) < 50);

  await page.evaluate(`document.querySelector('#view-attachments .vt-body').scrollTop = 1e9`);
  await page.until(`document.querySelector('${ROWS}[aria-rowindex="4001"]')`);
  assert.ok((await count(page, ROWS)) < 50);
  assert.equal(
    await page.evaluate(`document.querySelector('#view-attachments .vt').getAttribute('aria-rowcount')`),
    '4001',
  );
  assertQuiet(page, served);
});

test('what changes is shown without being asked for: a state, an error, one that is gone, one more', async () => {
  await using served = await serve(6);
  await using page = await shown(served);
  await page.until(`document.querySelector('#status').className.includes('live')`);

  served.source.change(1, { state: 'detaching', error: { code: 'SV_BUSY', message: '"postgres" (pid 7) holds it' } });
  await page.until(`document.querySelector('#view-attachments').innerText.includes('(pid 7) holds it')`);
  served.source.remove(5);
  await page.until(`document.querySelector('#count-attachments').textContent === '5'`);
  assertQuiet(page, served);
});

test('sorting, filtering and choosing states', async () => {
  await using served = await serve(200);
  await using page = await shown(served);

  await page.click('#view-attachments .vt-head .state button');
  await page.until(`document.querySelector('${ROWS}[aria-rowindex="2"] .state').textContent === 'undoing'`);
  await page.press('/');
  await page.type('web-1 root');
  await page.until(`document.querySelector('#view-attachments output').textContent.endsWith(' of 200')`);
  assert.ok((await count(page, ROWS)) < 200);
  await page.press('Enter');
  assert.equal(await page.evaluate(`document.activeElement.getAttribute('role')`), 'grid');
  await page.evaluate(
    `{ const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input')); }`,
  );
  await page.click('.chip.detached');
  await page.until(`[...document.querySelectorAll('${ROWS} .state')].every(e => e.textContent === 'detached')`);
});

test('all can be done with the keyboard: views, a table, what is open, the list of keys', async () => {
  await using served = await serve(40);
  await using page = await shown(served);

  // From the beginning of the document, in the order of what is seen, each with something to see it by.
  const stops: string[] = [];
  for (let i = 0; i < 7; i++) {
    await page.press('Tab');
    const { name, outline } = await page.evaluate<{ name: string; outline: string }>(
      `(() => { const e = document.activeElement; return { name: e.id || e.className || e.tagName, outline: getComputedStyle(e).outlineStyle }; })()`,
    );
    stops.push(name);
    assert.notEqual(outline, 'none', name);
  }
  assert.deepEqual(stops.slice(0, 5), ['skip', 'token-button', 'help-button', 'tab-attachments', 'filter']);

  await page.evaluate(`document.querySelector('#view-attachments .vt').focus()`);
  for (const key of ['j', 'ArrowDown', 'ArrowDown', 'k', 'End', 'Home', 'Enter']) await page.press(key);
  await page.until(`!document.querySelector('.panel').hidden`);
  assert.match(await page.text('.panel'), /Last run\n[\s\S]*(mount|undo mount)/);
  const active = await page.evaluate<string>(
    `document.querySelector('#view-attachments .vt').getAttribute('aria-activedescendant')`,
  );
  assert.equal(await page.evaluate(`document.getElementById('${active}').getAttribute('aria-rowindex')`), '2');
  await page.press('Escape');
  await page.until(`document.querySelector('.panel').hidden`);

  for (const [key, view] of [
    ['2', 'ids'],
    ['3', 'runs'],
    ['4', 'templates'],
    ['5', 'dead-letters'],
    ['1', 'attachments'],
  ] as const) {
    await page.press(key);
    await page.until(`!document.querySelector('#view-${view}').hidden && document.activeElement.id === 'tab-${view}'`);
  }
  await page.press('ArrowRight');
  assert.equal(await page.evaluate('document.activeElement.id'), 'tab-ids');
  await page.press('?');
  assert.match(await page.text('dialog[open]'), /another view/);
  await page.press('Escape');
  await page.until(`document.querySelector('dialog') === null`);
  assertQuiet(page, served);
});

test('ids: overlaps are told, the picture is moved with wheel and keys, and a table says the same', async () => {
  await using served = await serve(40);
  served.source.extraClaims.push({
    kind: 'uid',
    lane: 'runtime',
    start: 1_020_000,
    count: 65_536,
    owner: `lxd container "${HOSTILE}"`,
  });
  await using page = await shown(served);
  await page.press('2');
  await page.until(`document.querySelector('#view-ids .vt-body .vt-row')`);

  const span = () => page.evaluate<string>(`document.querySelector('canvas').getAttribute('aria-label')`);
  const before = await span();
  const { x, y } = await page.evaluate<{ x: number; y: number }>(
    `document.querySelector('canvas').getBoundingClientRect().toJSON()`,
  );
  await page.wheel(x + 400, y + 60, -240);
  await page.until(`document.querySelector('canvas').getAttribute('aria-label') !== ${JSON.stringify(before)}`);
  await page.evaluate(`document.querySelector('canvas').focus()`);
  for (const key of ['ArrowRight', '+', '-', 'ArrowLeft']) await page.press(key);
  assert.notEqual(await span(), before);
  await page.press('0');
  assert.equal(await span(), before);

  await page.click('#view-ids .chip.bad');
  await page.until(`document.querySelectorAll('#view-ids .vt-body .vt-row').length === 7`);
  const red = await page.evaluate<number>(`(() => {
    const c = document.querySelector('canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) if (d[i] > 150 && d[i + 1] < 60 && d[i + 2] < 70) n++;
    return n;
  })()`);
  assert.ok(red > 100, `${red} red pixels`);
  await page.click('#view-ids .vt-body .vt-row');
  await page.until(`document.querySelector('.panel').innerText.includes('Overlaps')`);
  assertQuiet(page, served);
});

test('texts of the bus, of images and of containers are texts, whatever they say and however long they are', async () => {
  await using served = await serve(8);
  const long = 'x'.repeat(2 ** 20);
  served.source.change(0, { instance: HOSTILE, target: `/${HOSTILE}`, error: { code: 'SV_MOUNT', message: HOSTILE } });
  served.source.change(1, { instance: `safe\u202Egpj.exe`, target: `/a\u0000\u001b[31m\u2066`, volumeId: long });
  served.source.change(2, { instance: long, target: `/${long}`, source: { kind: 'template', template: long } });
  const [letter] = served.source.letters;
  assert.ok(letter);
  served.source.letters.push({
    ...letter,
    id: 'aaaabbbbcccc',
    reason: HOSTILE,
    event: `\u202E${long}`,
    ids: { uuid: HOSTILE },
    host: long,
  });
  await using page = await shown(served);

  await page.click('#view-attachments .vt-head .instance button');
  await page.until(`document.body.innerText.includes('<img src=x onerror')`);
  assert.match(await page.text('#view-attachments'), /safe‹U\+202E›gpj\.exe/);
  for (let i = 2; i <= 9; i++) {
    await page.click(`${ROWS}[aria-rowindex="${i}"]`);
    await sleep(30);
  }
  await page.press('5');
  await page.until(`document.querySelectorAll('.letters tbody tr').length === 3`);
  assert.match(await page.text('.letters'), /<img src=x onerror/);

  assert.equal(await page.evaluate('document.title'), 'compute-07 · shiftvol');
  assert.equal(await count(page, 'img, body script, iframe, object, embed'), 0);
  const longest = await page.evaluate<number>(
    `Math.max(...[...document.querySelectorAll('bdi')].map(e => e.textContent.length))`,
  );
  assert.ok(longest < 5000, `${longest}`);
  const unseen = await page.evaluate<boolean>(
    String.raw`/[\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent)`,
  );
  assert.equal(unseen, false);
  assertQuiet(page, served);
});

test('the policy refuses a script in the document, a style, a frame and whatever is asked of others', async () => {
  await using served = await serve(2);
  await using page = await shown(served);

  const refused = await page.evaluate<readonly string[]>(`(async () => {
    const found = [];
    const attempt = (name, work) => { try { work(); } catch (e) { found.push(name); } };
    attempt('innerHTML', () => { document.createElement('p').innerHTML = '<b>x</b>'; });
    attempt('eval', () => eval('1'));
    attempt('script', () => { document.createElement('script').text = '1'; });
    await fetch('http://127.0.0.1:1/').catch(() => found.push('fetch'));
    return found;
  })()`);

  assert.deepEqual(refused, ['innerHTML', 'eval', 'script', 'fetch']);
});

test('dead letters: looking is for all, the token for doing; what is wrong is said, what is dropped is asked about', async () => {
  await using served = await serve(2);
  await using page = await shown(served);
  await page.press('5');
  await page.until(`document.querySelectorAll('.letters tbody tr').length === 2`);

  await page.click('.letters tbody tr input');
  await page.click('#view-dead-letters .danger');
  await page.until(`document.querySelector('#token-input')`);
  await page.type('a wrong one, of 20 characters');
  await page.press('Enter');
  await page.until(`document.querySelector('#token-wrong').innerText.includes('not the token')`);
  await page.type(TOKEN);
  await page.press('Enter');
  await page.until(`document.querySelector('[role=alertdialog]')`);
  assert.deepEqual(served.source.acted, []);
  await page.click('[role=alertdialog] .danger');
  await page.until(`document.querySelectorAll('.letters tbody tr').length === 1`);
  assert.deepEqual(served.source.acted, ['drop 3f2a90bc11d0']);

  await page.click('.letters thead input');
  await page.click('#view-dead-letters .primary');
  await page.until(`document.querySelectorAll('.letters tbody tr').length === 0`);
  assert.deepEqual(served.source.acted, ['drop 3f2a90bc11d0', 'replay 90bc5e1d7a42']);
});

test('a link opens once, leaves nothing in the address, and the tab stays in when it is loaded again', async () => {
  await using served = await serve(4, { isPrivate: true });
  const url = `${served.url}/page/#once=${served.link.secret}`;
  await using page = await browser.open(url);
  await page.until(`document.querySelector('${ROWS}')`);
  assert.equal(await page.evaluate('location.hash'), '#attachments');
  await page.send('Page.reload');
  await page.until(`document.querySelector('${ROWS}')`);

  await using other = await browser.open(url);
  await other.until(`document.querySelector('#problem').innerText.includes('opens once')`);
  assert.equal(await count(other, ROWS), 0);
  assert.ok(page.requests.every(asked => !asked.includes(served.link.secret) || asked.includes('#once=')));
});

test('an agent that goes and comes back is found again, and what was shown stays until then', async () => {
  const first = await serve(6);
  await using page = await shown(first);
  await first[Symbol.asyncDispose]();
  await page.until(`document.querySelector('#status').innerText.includes('no connection')`);
  assert.ok((await count(page, ROWS)) > 0);

  await using second = await serve(9, { address: new URL(first.url).host });
  await page.until(`document.querySelector('#count-attachments').textContent === '9'`, 30_000);
  assert.ok(second.source.watched);
});

describe('what is seen', () => {
  for (const dark of [false, true])
    test(`texts have the contrast of WCAG AA, ${dark ? 'dark' : 'light'}`, async () => {
      await using served = await serve(84);
      served.source.extraClaims.push({
        kind: 'uid',
        lane: 'runtime',
        start: 1_020_000,
        count: 65_536,
        owner: 'lxd container "x"',
      });
      await using page = await shown(served, { dark });
      for (const key of ['1', '2', '3', '4', '5']) {
        await page.press(key);
        await sleep(150);
        if (key === '1') await page.click(`${ROWS}[aria-rowindex="2"]`);
        await sleep(150);
        assert.deepEqual(await page.evaluate<readonly string[]>(FAINT), [], `view ${key}`);
      }
    });

  for (const width of [360, 768, 1280])
    test(`nothing is cut off at ${width} pixels`, async () => {
      await using served = await serve(40);
      await using page = await shown(served, { width });
      for (const key of ['1', '2', '3']) {
        await page.press(key);
        await page.until(`document.querySelector('section:not([hidden]) .vt-body .vt-row')`);
        assert.equal(await page.evaluate('document.documentElement.scrollWidth'), width, `view ${key}`);
      }
      assert.equal(await cell(page, 'instance'), 'api-1');
    });

  test('nothing moves for those who do not want it', async () => {
    await using served = await serve(4);
    await using page = await shown(served, { reducedMotion: true });
    await page.evaluate(`document.querySelector('#status').className = 'status connecting'`);
    assert.equal(await page.evaluate('document.getAnimations().length'), 0);
  });
});

/** Texts below 4.5:1 against the nearest background that is not see-through (WCAG 2.2, 1.4.3). What is disabled is exempt. */
const FAINT = `(() => {
  const rgb = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { const s = v / 255; return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = e => { for (let at = e; at; at = at.parentElement) { const c = rgb(getComputedStyle(at).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const faint = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest(':disabled, noscript')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.add(ratio.toFixed(2) + ' ' + e.tagName + '.' + e.className + ' ' + walk.currentNode.data.slice(0, 30));
  }
  return [...faint];
})()`;
