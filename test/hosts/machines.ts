import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostAddress, HostConnection, Hosts, RunOptions, RunResult } from '../../src/hosts/contract.ts';
import { lookUpHostKeys, parseKnownHosts } from '../../src/hosts/known-hosts.ts';
import { createHosts } from '../../src/hosts/ssh.ts';

/** A machine of the lab by name, with the host keys that the lab pinned. */
export async function machine(name: string): Promise<HostAddress> {
  const { address } = await lookup(name);
  const known = parseKnownHosts(await readFile(setting('FERRY_KNOWN_HOSTS'), 'utf8'));
  return { name, address, port: 22, user: 'root', hostKeys: lookUpHostKeys(known, [name, address]) };
}

/** Connections with the lab's key. */
export async function labHosts(): Promise<Hosts> {
  return createHosts({ privateKey: await readFile(setting('FERRY_SSH_IDENTITY')) });
}

/** Runs a script (bash, fails at the first error) and answers its stdout; throws with stderr when it fails. */
export async function script(connection: HostConnection, text: string, options: RunOptions = {}): Promise<string> {
  const result = await connection.run(['bash', '-eu', '-o', 'pipefail', '-s'], {
    timeout: 120_000,
    ...options,
    input: text,
  });
  return succeeded(result).stdout;
}

export function succeeded(result: RunResult): RunResult {
  if (result.code !== 0) throw new Error(`exit code ${result.code ?? result.signal ?? '?'}: ${result.stderr}`);
  return result;
}

/**
 * Waits until no other test file holds a machine, and holds it: for those that change what all of a machine's users see. Answers how to
 * let go. Who died holds nothing.
 */
export async function alone(name: string): Promise<() => Promise<void>> {
  const lock = join(dirname(setting('FERRY_KNOWN_HOSTS')), `${name}.alone`);
  for (;;) {
    try {
      await writeFile(lock, `${process.pid}`, { flag: 'wx' });
      return async () => rm(lock, { force: true });
    } catch {
      const holder = Number(await readFile(lock, 'utf8').catch(() => '0'));
      if (holder > 0 && !existsSync(`/proc/${holder}`)) await rm(lock, { force: true });
      else await sleep(500);
    }
  }
}

/** A directory name that no other test uses. */
export function freshName(prefix: string): string {
  return `${prefix}-${randomBytes(4).toString('hex')}`;
}

export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '')
    throw new Error(`${name} is not set: run this test in the lab (npm run -s lab -- run …)`);
  return value;
}
