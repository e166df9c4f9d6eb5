import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Marker } from '../../../src/activities/transfer-marker.ts';
import { advanceMarker, changedSinceProof, flushedIn } from '../../../src/activities/transfer-marker.ts';
import type { TransferNames } from '../../../src/activities/transfer-names.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';

let folder: string;
const claim = (name: string): string => join(folder, 'claim', name);

/** This machine, asked with real commands, and with programs of the test before those of the system. */
const here = {
  host: { name: 'new1', address: '127.0.0.1', port: 22, user: 'root', hostKeys: [] },
  run: (argv: readonly string[], { input }: { input?: string } = {}) => {
    const env = { LC_ALL: 'C', PATH: `${join(folder, 'programs')}:${process.env['PATH'] ?? ''}` };
    const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', input, env });
    return Promise.resolve({ code: status, signal: null, stdout, stderr });
  },
} as unknown as HostConnection;

const marker: Marker = {
  migration: 'lab',
  transfer: 'redis-0',
  sourceHost: 'old1',
  sourcePath: '/srv/a',
  destinationPath: '/srv/a',
  state: 'incomplete',
  base: { epoch: '1700000000.5', uptime: 5, bootId: 'source' },
};

const names = (): TransferNames => ({
  key: 'k',
  job: 'k',
  directory: join(folder, 'transfer'),
  claim: join(folder, 'claim'),
  lists: join(folder, 'lists'),
});

function advance(seconds: number): Promise<boolean> {
  return advanceMarker(here, join(folder, 'tree'), names(), marker, { seconds, signal: undefined });
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ferry-marker-'));
  for (const name of ['claim', 'tree', 'programs']) mkdirSync(join(folder, name));
  writeFileSync(claim('marker.json'), 'earlier');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('what a destination is known to hold', () => {
  it('moves forward when it was flushed, and is bound to this boot', async () => {
    const asked = join(folder, 'asked');
    const sync = `#!/bin/sh\necho "$*" >>'${asked}'; echo --file-system\n`;
    writeFileSync(join(folder, 'programs', 'sync'), sync, { mode: 0o755 });

    expect(await advance(1.5)).toBe(true);
    expect(JSON.parse(readFileSync(claim('marker.json'), 'utf8'))).toEqual(marker);
    expect(statSync(claim('marker.json')).mode & 0o777).toBe(0o600);
    expect(readFileSync(claim(flushedIn), 'utf8')).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'));
    // The data before the words about it.
    expect(readFileSync(asked, 'utf8').split('\n')[1]).toBe(`-f -- ${join(folder, 'tree')}`);
  });

  it('does not where the machine is up for a shorter time than the pass', async () => {
    expect(await advance(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) + 3600)).toBe(false);
    expect(readFileSync(claim('marker.json'), 'utf8')).toBe('earlier');
    expect(readFileSync(claim(flushedIn), 'utf8')).toBe('lost\n');
  });

  it('does not, and forgets what was known, where the disk did not take it', async () => {
    const sync =
      '#!/bin/sh\n[ "$1" != --help ] || { echo --file-system; exit; }\necho "sync: Input/output error" >&2; exit 1\n';
    writeFileSync(join(folder, 'programs', 'sync'), sync, { mode: 0o755 });

    await expect(advance(1)).rejects.toThrow(/flushing the destination on new1 failed .*Input\/output error/);
    expect(readFileSync(claim('marker.json'), 'utf8')).toBe('earlier');
    expect(readFileSync(claim(flushedIn), 'utf8')).toBe('lost\n');
  });
});

describe('what was written to a destination since it was proved', () => {
  const changed = (): Promise<string | undefined> => changedSinceProof(here, join(folder, 'tree'), names(), undefined);
  const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

  it.each<[string, () => void, string | undefined]>([
    ['nothing', () => undefined, undefined],
    ['a look', () => readFileSync(join(folder, 'tree/a/b')), undefined],
    ['the content of a file', () => writeFileSync(join(folder, 'tree/a/b'), 'x'), 'a/b'],
    [
      'a file that was dated back',
      () => {
        writeFileSync(join(folder, 'tree/a/b'), 'y');
        utimesSync(join(folder, 'tree/a/b'), 1e9, 1e9);
      },
      'a/b',
    ],
    ['a mode', () => chmodSync(join(folder, 'tree/a/b'), 0o600), 'a/b'],
    ['a file that went', () => rmSync(join(folder, 'tree/a/b')), 'a'],
    ['a file at the top that went', () => rmSync(join(folder, 'tree/top')), '.'],
  ])('finds %s', async (_name, change, expected) => {
    mkdirSync(join(folder, 'tree/a'));
    writeFileSync(join(folder, 'tree/a/b'), 'b');
    writeFileSync(join(folder, 'tree/top'), '');
    await tick();
    writeFileSync(claim('marker.json'), 'proved');
    await tick();
    change();

    expect(await changed()).toBe(expected);
  });

  it('is not taken for nothing where nobody could look', async () => {
    rmSync(claim('marker.json'));

    await expect(changed()).rejects.toThrow(/looking for changes on new1 failed/);
  });
});
