import { ensureParts } from '../../lab/build/parts.ts';
import { ensureChromium } from './chromium.ts';

/** What the tests need on this machine, once for all of them. */
export async function setup(): Promise<void> {
  await ensureParts(['temporal']);
  await ensureChromium();
}
