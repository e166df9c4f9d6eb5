import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { grantAccess, revokeAccess } from '../../../src/activities/transfer-access.ts';
import { namesOf } from '../../../src/activities/transfer-names.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';
import { request } from './transfer-sample.ts';

/* The scripts in a real sh with the real tools; home and /var/lib/ferry lie in a directory of the test. */

let folder: string;
const keys = (): string => join(folder, 'home/.ssh/authorized_keys');

const names = namesOf(request);
const source = {
  host: request.source,
  run: () => Promise.resolve({ code: 0, signal: null, stdout: 'key=ssh-ed25519 AAAA\nfrom=10.0.0.1\n', stderr: '' }),
} as unknown as HostConnection;
const destination = {
  host: request.destination,
  run: (argv: readonly string[], { input = '' }: { input?: string } = {}) => {
    const there = (text: string): string => text.replaceAll('/var/lib/ferry', join(folder, 'ferry'));
    const env = { LC_ALL: 'C', PATH: `${join(folder, 'programs')}:${process.env['PATH'] ?? ''}` };
    const result = spawnSync(argv[0]!, argv.slice(1).map(there), { encoding: 'utf8', input: there(input), env });
    return Promise.resolve({ code: result.status, signal: null, stdout: result.stdout, stderr: result.stderr });
  },
} as unknown as HostConnection;

const grant = (): Promise<void> =>
  grantAccess(source, destination, request, names, { destinationPath: '/sysvol/redis', cipher: 'aes128-ctr' });
const revoke = (): Promise<void> => revokeAccess(destination, names);
const mine = `restrict,from="10.0.0.1" ssh-ed25519 AAAB ferry:${names.key}\n`;

function program(name: string, text: string): void {
  writeFileSync(join(folder, 'programs', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ferry-access-'));
  for (const name of ['home/.ssh', 'programs', 'ferry/transfers']) mkdirSync(join(folder, name), { recursive: true });
  program('getent', `echo "root:x:0:0:root:${join(folder, 'home')}:/bin/sh"`);
  program('sshd', ':');
  program('restorecon', ':');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('the keys of a machine', () => {
  // The last line has no end: people edit the file by hand.
  const strangers = 'ssh-ed25519 AAAC somebody else\nssh-rsa AAAD \u00e4\0odd';

  it('stay as they are, with their mode, while one comes and goes', async () => {
    writeFileSync(keys(), strangers);
    chmodSync(keys(), 0o640);

    await grant();
    await grant();
    const granted = readFileSync(keys(), 'utf8');
    const { mode } = statSync(keys());
    await revoke();

    expect(granted.startsWith(`${strangers}\n`)).toBe(true);
    expect(granted.split(`ferry:${names.key}\n`)).toHaveLength(2);
    expect(mode & 0o777).toBe(0o640);
    expect(readFileSync(keys(), 'utf8')).toBe(`${strangers}\n`);
    expect(readdirSync(join(folder, 'home/.ssh'))).toEqual(['authorized_keys']);
  });

  it('may be none but that of a transfer', async () => {
    writeFileSync(keys(), mine);
    await revoke();

    expect(readFileSync(keys(), 'utf8')).toBe('');
  });

  it.each([
    ['grep', 'a key is taken away', mine, revoke],
    ['sync', 'a key is taken away', mine, revoke],
    ['grep', 'one is admitted', '', grant],
    ['sync', 'one is admitted', '', grant],
    ['grep', 'those of the dead are swept', 'ssh-ed25519 AAAE ferry:lab-dead-0\n', grant],
  ])('stay as they are when %s cannot write all of them while %s', async (tool, _name, last, step) => {
    const before = `ssh-ed25519 AAAC somebody else\n${last}`;
    writeFileSync(keys(), before);
    const dead = join(folder, 'ferry/transfers/lab-dead-0');
    mkdirSync(dead);
    utimesSync(dead, 1e9, 1e9);
    // As on a full disk: a part of the lines, then 2. A look for a line finds it.
    const full = 'case "$1" in -*q*) exit 0 ;; esac; echo cut; echo "write error: No space left on device" >&2; exit 2';
    program(tool, tool === 'grep' ? full : 'exit 1');

    await expect(step()).rejects.toThrow(/ on new1 failed /);
    expect(readFileSync(keys(), 'utf8')).toBe(before);
    expect(readdirSync(join(folder, 'home/.ssh'))).toEqual(['authorized_keys']);
  });
});
