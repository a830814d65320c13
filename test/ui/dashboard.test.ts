import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import axe from 'axe-core';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { spawnCli } from '../support/cli.js';
import { UiStage } from './stage.js';

/** What the terminal shows must not be what was typed: the shell joins the two words. */
const typed = (word: string) => `echo ${word.slice(0, 2)}''${word.slice(2)}`;

describe('the dashboard', () => {
  let stage: UiStage;
  let page: Page;
  let complaints: string[];
  let keyId: string;

  beforeAll(async () => {
    stage = await UiStage.open();
    ({ page, complaints } = await stage.newPage());
  });
  afterAll(async () => stage?.close());

  /** Waits until the terminal shows a text. */
  async function shows(text: string | RegExp): Promise<void> {
    await page.locator('.xterm-rows').filter({ hasText: text }).waitFor();
  }

  async function type(line: string): Promise<void> {
    await page.locator('.xterm-helper-textarea').focus();
    await page.keyboard.type(`${line}\n`);
  }

  async function tab(name: string): Promise<void> {
    await page.getByRole('navigation', { name: 'Parts of the box' }).getByRole('link', { name }).click();
  }

  /** What axe finds wrong with the page as it is. */
  async function barriers(): Promise<string[]> {
    await page.evaluate(axe.source);
    return await page.evaluate(async () => {
      const { axe } = globalThis as unknown as {
        axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
      };
      const { violations } = await axe.run();
      return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
    });
  }

  it('asks for a key, says what is wrong with a bad one, and lets a good one in', async () => {
    await page.goto(stage.url);
    await page.getByLabel('API key').fill('cbx_bad');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').filter({ hasText: 'API key' }).waitFor();
    await stage.picture(page, 'sign-in');
    expect(await barriers()).toEqual([]);
    const { id, key } = await stage.keys.create({ name: 'browser' });
    keyId = id;
    await page.getByLabel('API key').fill(key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('There are no boxes yet').waitFor();
    await page.getByRole('status').filter({ hasText: 'live' }).waitFor();
  });

  it('makes a box, and shows the error of one that cannot be', async () => {
    await page.getByRole('link', { name: 'Create a box' }).click();
    await page.getByLabel('Name').fill('no such name!');
    await page.getByLabel('Image').fill('tiny');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByRole('alert').filter({ hasText: 'letters, digits' }).waitFor();
    await page.getByLabel('Name').fill('demo');
    await stage.picture(page, 'create');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByRole('heading', { name: 'demo' }).waitFor();
    await page.getByText('running', { exact: true }).waitFor();
    expect(await barriers()).toEqual([]);
  });

  it('shows what others do at once, with markup as the text it is, and acts on many', async () => {
    await page.getByRole('link', { name: 'Boxes', exact: true }).click();
    const labels = { note: '<img src=x onerror="document.title=1">' };
    await stage.runtime.create({ image: 'tiny', name: 'other', labels, detach: true });
    const row = page.getByRole('row').filter({ hasText: 'other' });
    await row.filter({ hasText: 'note=<img src=x' }).filter({ hasText: 'running' }).waitFor();
    expect(await page.locator('table img').count()).toBe(0);
    await stage.picture(page, 'boxes');
    expect(await barriers()).toEqual([]);
    await page.getByLabel('Filter boxes').fill('other running');
    await page.getByLabel('Choose all').check();
    await page.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await row.waitFor({ state: 'detached' });
    await page.getByLabel('Filter boxes').fill('');
    await page.getByRole('link', { name: 'demo' }).click();
  });

  it('types into a box and sees what it says, in the size of the window', async () => {
    await tab('Terminal');
    await page.getByRole('status').filter({ hasText: 'connected' }).waitFor();
    await type(`stty size; ${typed('forty-two')}`);
    await shows('forty-two');
    await page.setViewportSize({ width: 700, height: 600 });
    const before = await page.locator('.xterm-rows').innerText();
    const columns = (text: string) => Number(/\n(\d+) (\d+)\s/.exec(`\n${text}`)?.[2]);
    await type(`clear; stty size; ${typed('smaller')}`);
    await shows('smaller');
    expect(columns(await page.locator('.xterm-rows').innerText())).toBeLessThan(columns(before));
    await page.setViewportSize({ width: 1100, height: 700 });
    await stage.picture(page, 'terminal');
  });

  it('uploads and downloads the same bytes', async () => {
    const buffer = randomBytes(300_000);
    await tab('Files');
    await page.locator('input[type=file]').setInputFiles({ name: 'data.bin', mimeType: '', buffer });
    const row = page.getByRole('row').filter({ hasText: 'data.bin' });
    await row.waitFor();
    const box = await stage.runtime.get('demo');
    expect(Buffer.from((await box?.files.read('/root/data.bin')) ?? []).equals(buffer)).toBe(true);
    const coming = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download data.bin' }).click();
    const download = await coming;
    expect(download.suggestedFilename()).toBe('data.bin');
    expect((await readFile(await download.path())).equals(buffer)).toBe(true);
    await stage.picture(page, 'files');
    expect(await barriers()).toEqual([]);
  });

  it('takes a snapshot, and goes back to it after all is ruined', async () => {
    await tab('Snapshots');
    await page.getByLabel('Name').fill('good');
    await page.getByLabel('with memory').check();
    await page.getByRole('button', { name: 'Take a snapshot' }).click();
    const row = page.getByRole('row').filter({ hasText: 'good' });
    await row.waitFor();
    const box = await stage.runtime.get('demo');
    await box?.exec(['rm', '-r', '/root']);
    await row.getByRole('button', { name: 'Roll back' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
    await page.getByText('working…').waitFor({ state: 'detached' });
    await stage.picture(page, 'snapshots');
    expect(await barriers()).toEqual([]);
    await tab('Files');
    await page.getByRole('row').filter({ hasText: 'data.bin' }).waitFor();
  });

  it('shows what descends from what, and what boxes are made from', async () => {
    const pages = page.getByRole('navigation', { name: 'Pages' });
    await pages.getByRole('link', { name: 'Images' }).click();
    await page.getByRole('button', { name: /^Remove .*tiny/ }).waitFor();
    expect(await barriers()).toEqual([]);
    await pages.getByRole('link', { name: 'Tree' }).click();
    await page.getByRole('button', { name: 'Roll back: snapshot good' }).waitFor();
    await stage.picture(page, 'tree');
    expect(await barriers()).toEqual([]);
    await page.getByRole('button', { name: 'Compare: snapshot good' }).click();
    await page.getByRole('button', { name: 'Its image' }).click();
    const changes = page.getByRole('dialog', { name: 'From the image to good' });
    await changes.getByRole('cell', { name: 'added' }).first().waitFor();
    expect(await barriers()).toEqual([]);
    await changes.getByRole('button', { name: 'Close' }).click();
    await page.locator('.tree .tree').getByRole('link', { name: 'demo' }).click();
    await page.getByRole('heading', { name: 'demo' }).waitFor();
  });

  it('comes back by itself when the server was restarted under it, its terminal too', async () => {
    await tab('Terminal');
    await page.getByRole('button', { name: 'New terminal' }).click();
    await page
      .locator('.terminal-state:visible')
      .filter({ hasText: /^connected$/ })
      .waitFor();
    const shown = page.locator('.xterm-rows:visible');
    await page.locator('.xterm-helper-textarea:visible').focus();
    await page.keyboard.type('kept=seven\n');
    await shown.filter({ hasText: 'kept=seven' }).waitFor();
    await stage.stop();
    await page.getByText('Connection lost, coming back…').waitFor();
    await stage.start();
    await page.locator('.connection.live').waitFor();
    await page
      .locator('.terminal-state:visible')
      .filter({ hasText: /^connected$/ })
      .waitFor();
    await page.locator('.xterm-helper-textarea:visible').focus();
    await page.keyboard.type('echo still-$kept\n');
    await shown.filter({ hasText: 'still-seven' }).waitFor();
  });

  it('is shown by the command line to the one browser that has its link', async () => {
    const command = spawnCli(stage.home.path, ['ui']);
    const [line] = await once(command.stdout ?? expect.unreachable(), 'data');
    const link = String(line).trim();
    expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/ui\/#link=[\w-]{32}$/);
    const { page: first, context } = await stage.newPage();
    await first.goto(link);
    await first.getByRole('link', { name: 'demo' }).waitFor();
    expect(first.url()).not.toContain('link=');
    const { page: second, context: other } = await stage.newPage();
    await second.goto(link);
    await second.getByRole('alert').filter({ hasText: 'API key' }).waitFor();
    await context.close();
    await other.close();
    command.kill('SIGINT');
    expect((await command).exitCode).toBe(0);
  });

  it('asks for a key again once that of its session is revoked', async () => {
    await stage.keys.remove(keyId);
    await page.getByLabel('API key').waitFor();
    expect(complaints).toEqual([]);
  });
});
