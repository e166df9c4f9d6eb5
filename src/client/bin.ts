#!/usr/bin/env node
import { nodeRange } from '../version.ts';
import { isBelowFloor } from './node-floor.ts';

// Everything else is loaded only after this: on an older Node the libraries fail with messages that nobody can read.
if (isBelowFloor(process.versions.node, nodeRange)) {
  process.stderr.write(
    `ferry needs Node ${nodeRange}, and this is Node ${process.versions.node} (${process.execPath}).\n` +
      `Install a current Node from your distribution or nodejs.org, then run ferry again. Nothing was done.\n`,
  );
  process.exitCode = 1;
} else {
  const { main } = await import('./main.ts');
  process.exitCode = await main(process.argv.slice(2));
}
