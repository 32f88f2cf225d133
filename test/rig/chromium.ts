/**
 * A Chromium for the tests of the page, headless, over the pipe of its DevTools protocol: no port, no library between, and what it does to
 * the network, the console and the document can be asked for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { findBrowser } from './browser.ts';

export type OpenOptions = {
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
  readonly reducedMotion?: boolean;
  /** Before any script of the page. */
  readonly script?: string;
};

type Reply = { readonly result?: unknown; readonly error?: { readonly message: string } };
type Message = Reply & {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly sessionId?: string;
};

/** @throws where there is none: `npm run test:integration` installs it */
export async function startChromium(): Promise<Chromium> {
  const program = findBrowser();
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-chromium-'));
  const child = spawn(
    program,
    [
      '--headless=new',
      '--remote-debugging-pipe',
      `--user-data-dir=${dir}`,
      // Root has no sandbox; and /dev/shm of a container is small.
      '--no-sandbox',
      '--disable-dev-shm-usage',
      '--disable-gpu',
      '--disable-extensions',
      '--disable-background-networking',
      '--disable-component-update',
      '--no-first-run',
      '--hide-scrollbars=false',
      '--force-color-profile=srgb',
      // Greys alone at the edges of letters: a third of the bytes of a picture.
      '--disable-lcd-text',
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], env: { ...process.env, HOME: dir, TZ: 'UTC' } },
  );
  return new Chromium(child, dir);
}

export class Chromium implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #out: Writable;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  readonly #sessions = new Map<string, (method: string, params: Record<string, unknown>) => void>();
  readonly #ended: Promise<void>;
  #nextId = 1;

  constructor(child: ChildProcess, dir: string) {
    this.#child = child;
    this.#dir = dir;
    const [, , , out, incoming] = child.stdio;
    if (!(out instanceof Writable) || !(incoming instanceof Readable)) throw new Error('Chromium has no pipe');
    this.#out = out;
    out.on('error', () => undefined);
    let rest = '';
    incoming.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\0');
      rest = parts.pop() ?? '';
      for (const part of parts) this.#take(JSON.parse(part));
    });
    this.#ended = new Promise(resolve =>
      child.once('close', () => {
        for (const { reject } of this.#waiting.values()) reject(new Error('Chromium has ended'));
        resolve();
      }),
    );
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async open(url: string, options: OpenOptions = {}): Promise<Page> {
    const { targetId } = await this.send<{ targetId: string }>('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send<{ sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    this.#sessions.set(sessionId, (method, params) => page.hear(method, params));
    await page.begin(url, options);
    return page;
  }

  /** One method of the protocol. */
  async send<T = unknown>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    this.#out.write(`${JSON.stringify({ id, method, params, ...(sessionId !== undefined && { sessionId }) })}\0`);
    // The shape is the protocol's: https://chromedevtools.github.io/devtools-protocol/
    return (await promise) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const cut = setTimeout(() => this.#child.kill('SIGKILL'), 3000);
    this.send('Browser.close').catch(() => undefined);
    await this.#ended;
    clearTimeout(cut);
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }

  #take(message: Message): void {
    if (message.id !== undefined) {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) waiting?.reject(new Error(message.error.message));
      else waiting?.resolve(message.result);
    } else if (message.sessionId !== undefined && message.method !== undefined)
      this.#sessions.get(message.sessionId)?.(message.method, message.params ?? {});
  }
}

export class Page implements AsyncDisposable {
  /** What it says on its console, what it throws, and what its content security policy has refused. */
  readonly complaints: string[] = [];
  /** The URLs of all that it asked for. */
  readonly requests: string[] = [];
  readonly #browser: Chromium;
  readonly #target: string;
  readonly #session: string;

  constructor(browser: Chromium, target: string, session: string) {
    this.#browser = browser;
    this.#target = target;
    this.#session = session;
  }

  send<T = unknown>(method: string, params: object = {}): Promise<T> {
    return this.#browser.send<T>(method, params, this.#session);
  }

  async begin(url: string, { width = 1280, height = 800, dark, reducedMotion, script }: OpenOptions): Promise<void> {
    for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await this.send(`${domain}.enable`);
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
    await this.send('Emulation.setEmulatedMedia', {
      features: [
        { name: 'prefers-color-scheme', value: dark === true ? 'dark' : 'light' },
        { name: 'prefers-reduced-motion', value: reducedMotion === true ? 'reduce' : 'no-preference' },
      ],
    });
    await this.send('Emulation.setFocusEmulationEnabled', { enabled: true });
    if (script !== undefined) await this.send('Page.addScriptToEvaluateOnNewDocument', { source: script });
    await this.send('Page.navigate', { url });
  }

  /** The value of a JavaScript expression in the page; awaited. */
  async evaluate<T>(expression: string): Promise<T> {
    type Evaluated = {
      result: { value: T };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    };
    const { result, exceptionDetails } = await this.send<Evaluated>('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
      allowUnsafeEvalBlockedByCSP: false,
    });
    if (exceptionDetails)
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text, { cause: expression });
    return result.value;
  }

  /** Until the expression is true. @throws after `timeoutMs` */
  async until(expression: string, timeoutMs = 10_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const value = await this.evaluate<unknown>(`!!(${expression})`).catch(() => false);
      if (value === true) return;
      if (Date.now() > deadline)
        throw new Error(`it never became true: ${expression}\n${this.complaints.join('\n')}\n${await this.text()}`);
      await sleep(30);
    }
  }

  text(selector = 'body'): Promise<string> {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`);
  }

  async click(selector: string): Promise<void> {
    const at = await this.evaluate<{ x: number; y: number }>(
      `(() => { const e = document.querySelector(${JSON.stringify(selector)}); e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()`,
    );
    for (const type of ['mousePressed', 'mouseReleased'])
      await this.send('Input.dispatchMouseEvent', { type, ...at, button: 'left', clickCount: 1 });
  }

  /** A key by its name (`Enter`, `Tab`, `ArrowDown`) or the character that it types. */
  async press(key: string): Promise<void> {
    const isText = key.length === 1;
    const code = {
      Enter: 13,
      Tab: 9,
      Escape: 27,
      ArrowDown: 40,
      ArrowUp: 38,
      ArrowLeft: 37,
      ArrowRight: 39,
      End: 35,
      Home: 36,
    };
    const windowsVirtualKeyCode = isText ? key.toUpperCase().charCodeAt(0) : code[key as keyof typeof code];
    const event = { key, code: isText ? '' : key, windowsVirtualKeyCode };
    const text = isText ? key : key === 'Enter' ? '\r' : undefined;
    await this.send('Input.dispatchKeyEvent', {
      type: text === undefined ? 'rawKeyDown' : 'keyDown',
      ...event,
      ...(text !== undefined && { text }),
    });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  type(text: string): Promise<unknown> {
    return this.send('Input.insertText', { text });
  }

  async wheel(x: number, y: number, deltaY: number): Promise<void> {
    await this.send('Input.dispatchMouseEvent', { type: 'mouseWheel', x, y, deltaX: 0, deltaY });
  }

  async screenshot(file: string): Promise<void> {
    const { data } = await this.send<{ data: string }>('Page.captureScreenshot', { format: 'png' });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.send('Target.closeTarget', { targetId: this.#target });
  }

  hear(method: string, params: Record<string, unknown>): void {
    // The shapes are the protocol's.
    if (method === 'Network.requestWillBeSent') this.requests.push((params['request'] as { url: string }).url);
    if (method === 'Log.entryAdded') {
      const { level, text, url } = params['entry'] as { level: string; text: string; url?: string };
      this.complaints.push(`${level}: ${text} ${url ?? ''}`);
    }
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(params['exceptionDetails']));
    if (method === 'Runtime.consoleAPICalled') this.complaints.push(`console: ${JSON.stringify(params['args'])}`);
  }
}
