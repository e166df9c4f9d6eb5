import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext } from 'playwright-core';
import { chromium } from 'playwright-core';
import { ensureTools } from '../../lab/build/parts.ts';

/** Debian's own browser, with letters for both languages of the documents. */
export function ensureChromium(): Promise<void> {
  return ensureTools({ chromium: 'chromium fonts-dejavu-core fonts-noto-cjk' });
}

export interface Browser {
  context: BrowserContext;
  close: () => Promise<void>;
}

/** A real browser without a screen, as if started for the first time. */
export async function startBrowser(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), 'ferry-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    headless: true,
    // Whatever a page of ours forbids the browser has to be unnecessary as well: a test sees what would happen without it.
    bypassCSP: true,
    viewport: { width: 1360, height: 900 },
    args: [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
    ],
  });
  context.setDefaultTimeout(30_000);
  return {
    context,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
