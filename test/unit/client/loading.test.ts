import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');

/** Runs before the program and writes the address of every module that is loaded. */
const spy = `
import { registerHooks } from 'node:module';
import { writeSync } from 'node:fs';
registerHooks({
  load(url, context, next) {
    writeSync(2, 'loaded ' + url + '\\n');
    return next(url, context);
  },
});`;

/** Packages and own modules that a command line loads. */
async function loadedBy(...args: string[]): Promise<string[]> {
  const argv = ['--import', `data:text/javascript,${encodeURIComponent(spy)}`, 'src/client/bin.ts', ...args];
  const run = promisify(execFile)(process.execPath, argv, { cwd: root, maxBuffer: 2 ** 24 });
  // A command that fails has loaded what it needs as well.
  const { stderr } = await run.catch((error: unknown) => error as { stderr: string });
  return [...stderr.matchAll(/^loaded (?<url>.*)$/gm)].map(({ groups }) => groups?.['url'] ?? '');
}

/** What takes time to load: the clients of Kubernetes, Temporal and ssh, the worker, and the work of commands. */
const heavy = /node_modules\/(@kubernetes|@temporalio|ssh2)\/|src\/(worker|activities|workflows)[./]/;
/** Of those that describe a schema, and no others. */
const schemas = /node_modules\/zod\//;

describe('a command line that asks for little', () => {
  it.each([
    ['--version'],
    ['--help'],
    ['check', '--help'],
    ['worker', '--help'],
    ['completion', 'bash'],
    ['completion', 'zsh'],
    ['schema', 'approve'],
    ['plann'],
  ])('%s %s loads no client and no worker', { timeout: 60_000 }, async (...args) => {
    const loaded = await loadedBy(...args);

    expect(loaded.some((url) => url.includes('/node_modules/commander/'))).toBe(true);
    expect(loaded.filter((url) => heavy.test(url))).toEqual([]);
    expect(loaded.some((url) => schemas.test(url))).toBe(args[0] === 'schema');
  });

  it.each([
    [['check', 'no-such-plan.yaml'], '/@kubernetes/client-node/'],
    [['status', '--address', '127.0.0.1:1'], '/@temporalio/client/'],
  ])('the test would see it: %s loads %s', { timeout: 60_000 }, async (args, wanted) => {
    expect((await loadedBy(...args)).some((url) => heavy.test(url) && url.includes(wanted))).toBe(true);
  });
});

describe('a worker of copies alone', () => {
  it('loads the worker, and no client of Kubernetes: that is memory for nothing', { timeout: 60_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ferry-loading-'));
    const identity = join(directory, 'identity');
    writeFileSync(identity, ssh2.utils.generateKeyPairSync('ed25519').private, { mode: 0o600 });
    // Where no server is it ends once everything is loaded.
    const loaded = await loadedBy('worker', '--copies-only', '--address', '127.0.0.1:1', '--ssh-identity', identity);
    rmSync(directory, { recursive: true });

    expect(loaded.some((url) => url.endsWith('/src/worker.ts'))).toBe(true);
    expect(loaded.some((url) => url.includes('/node_modules/ssh2/'))).toBe(true);
    expect(loaded.filter((url) => url.includes('/node_modules/@kubernetes/'))).toEqual([]);
  });
});
