/** Takes the README's picture of the page, of a host that is not there. Needs Chromium. `npm run picture:page` */
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { listen } from '../src/http/listener.ts';
import { makePage } from '../src/page/page.ts';
import { newToken, Token } from '../src/page/token.ts';
import { startChromium } from '../test/rig/chromium.ts';
import { DemoHost } from '../test/rig/page-demo.ts';

const FILE = fileURLToPath(new URL('../deploy/pictures/page.png', import.meta.url));
const MOST_BYTES = 150 * 1024;
/** Of forty-two instances. */
const ATTACHMENTS = 84;

const source = new DemoHost(ATTACHMENTS);
using page = makePage({ source, token: new Token(newToken()), onError: (_section, error) => console.error(error) });
await using listener = await listen({ address: '127.0.0.1:0', routes: page.routes });
await using browser = await startChromium();
await using shown = await browser.open(`${listener.url}/page/`, { width: 1120, height: 630 });
await shown.until("document.querySelector('#view-attachments .vt-body .vt-row')");
// What is under way or went wrong first; and of one that stands how it came to be.
await shown.click('#view-attachments .vt-head .state button');
await shown.click('#view-attachments .vt-body .vt-row:nth-child(6)');
await shown.until("document.querySelector('.steps')");
await shown.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x: 2, y: 2 });
await shown.evaluate('document.fonts.ready.then(() => new Promise(done => setTimeout(done, 300)))');
await shown.screenshot(FILE);
const { size } = statSync(FILE);
console.log(`${FILE}: ${size} bytes`);
if (size > MOST_BYTES) throw new Error(`the picture has ${size} bytes, ${MOST_BYTES} are accepted`);
