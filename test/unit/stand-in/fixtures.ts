import { readFileSync } from 'node:fs';

// the type of what is read is known to who asks
/* eslint-disable @typescript-eslint/no-unnecessary-type-parameters */

/** A file of what the real tool was recorded to answer. */
export function recorded<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../fixtures/platform-data/${name}`, import.meta.url), 'utf8')) as T;
}
