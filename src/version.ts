import { readFileSync } from 'node:fs';

interface Manifest {
  version: string;
  engines: { node: string };
}

/** package.json lies one level above both `src` and `dist`. */
const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Manifest;

export const version = manifest.version;
/** E.g. `>=22.19`. */
export const nodeRange = manifest.engines.node;
