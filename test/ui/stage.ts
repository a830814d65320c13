import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { Runtime } from '../../src/api/index.js';
import { ApiKeys } from '../../src/home/keys.js';
import { type ServedHome, serveHttp } from '../../src/home/serve-http.js';
import { connectRuntime } from '../../src/remote/index.js';
import { newHome, type TestHome } from '../support/home.js';

/** Pictures of the pages, for people to look at. */
const pictures = '.cache/screenshots';

/** A home that is served, with keys, and a browser that looks at it. */
export class UiStage {
  readonly home: TestHome;
  readonly keys: ApiKeys;
  readonly browser: Browser;
  readonly port: number;
  /** With a key of its own, which no test revokes. */
  readonly runtime: Runtime;
  #served: ServedHome;

  private constructor(home: TestHome, keys: ApiKeys, browser: Browser, served: ServedHome, key: string) {
    this.home = home;
    this.keys = keys;
    this.browser = browser;
    this.#served = served;
    this.port = Number(new URL(served.address.url).port);
    this.runtime = connectRuntime({ url: served.address.url, apiKey: key });
  }

  static async open(): Promise<UiStage> {
    await mkdir(pictures, { recursive: true });
    const home = await newHome();
    const keys = await ApiKeys.open(home.path);
    const { key } = await keys.create({ name: 'test' });
    const served = await serveHttp({ home: home.path, listen: { port: 0 }, poolSize: 0 });
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      // Debian's sandbox needs what containers do not give.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
    });
    return new UiStage(home, keys, browser, served, key);
  }

  get url(): string {
    return `${this.#served.address.url}/ui/`;
  }

  /** Ends the server, and its engine with it. */
  async stop(): Promise<void> {
    await this.#served.close();
  }

  /** Serves the same home at the same place. */
  async start(): Promise<void> {
    this.#served = await serveHttp({ home: this.home.path, listen: { port: this.port }, poolSize: 0 });
  }

  /** A browser of its own, and what its page complained of. */
  async newPage(): Promise<{ page: Page; context: BrowserContext; complaints: string[] }> {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 700 } });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (/content security policy/i.test(message.text())) complaints.push(message.text());
    });
    return { page, context, complaints };
  }

  async picture(page: Page, name: string): Promise<void> {
    await page.screenshot({ path: join(pictures, `${name}.png`) });
  }

  async close(): Promise<void> {
    await this.browser.close();
    for (const box of await this.runtime.list()) await this.runtime.remove(box.id, { force: true });
    await this.runtime.close();
    await this.#served.close();
    await this.keys[Symbol.asyncDispose]();
    await this.home[Symbol.asyncDispose]();
  }
}
