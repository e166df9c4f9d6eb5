import { describe, expect, it } from 'vitest';
import type { Mount } from '../../../src/activities/mounts.ts';
import { parseMountInfo, relate } from '../../../src/activities/mounts.ts';
import type { GuardFacts } from '../../../src/activities/transfer-guard.ts';
import { guardDestination } from '../../../src/activities/transfer-guard.ts';
import { whyClosed } from '../../../src/plan/directories.ts';
import type { ReplicateInput } from '../../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../../src/plan/replicate.ts';

const GiB = 1024 ** 3;
const host = {
  address: '10.0.0.1',
  user: 'root',
  port: 22,
  hostKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl'],
  role: 'other',
};

function request(path: string, allowedRoots: string[] = []): ReplicateInput {
  return replicateInputSchema.parse({
    migration: 'lab',
    transfer: {
      id: 'redis-0',
      subject: { type: 'host-service', service: 'redis' },
      source: { host: 'old1', path: '/sysvol/redis' },
      destination: { host: 'new1', path },
    },
    source: { ...host, name: 'old1' },
    destination: { ...host, name: 'new1' },
    mode: 'live',
    allowedRoots,
  });
}

const root: Mount[] = parseMountInfo('1 0 8:1 / / rw - ext4 /dev/sda1 rw');

function facts(change: Partial<GuardFacts> = {}): GuardFacts {
  return {
    sameHost: false,
    sourcePath: '/sysvol/redis',
    destinationPath: '/sysvol/redis',
    destinationMounts: root,
    marker: undefined,
    firstEntry: undefined,
    sourceBytes: GiB,
    sourceFiles: 1000,
    largestFile: GiB / 2,
    allocatedThere: 0,
    filesThere: 0,
    freeBytes: 10 * GiB,
    freeInodes: 1_000_000,
    ...change,
  };
}

const marker = { migration: 'lab', transfer: 'redis-0', sourceHost: 'old1', sourcePath: '/sysvol/redis' };

/** What stands in the way, as type and message. */
function refusal(asked: ReplicateInput, seen: Partial<GuardFacts>, inplace = false): string {
  try {
    guardDestination(asked, facts({ destinationPath: asked.transfer.destination.path, ...seen }), inplace);
    return 'none';
  } catch (error) {
    const { type, message } = error as { type?: string; message: string };
    return `${type ?? '?'}: ${message}`;
  }
}

describe('directories of the system', () => {
  it.each([
    ...['/', '/bin', '/boot/x', '/dev/shm', '/etc', '/etc/ssh', '/lib', '/lib64', '/proc/1', '/run/x', '/sbin', '/sys'],
    ...[
      '/usr',
      '/usr/local/data',
      '/var',
      '/var/cache/x',
      '/var/lib',
      '/var/lib/etcd',
      '/var/lib/ferry/x',
      '/var/log/x',
    ],
    ...['/var/lib/kubelet/pods', '/var/lib/dpkg', '/var/lib/rpm', '/var/lib/systemd', '/var/run', '/var/spool/cron'],
    ...['/home', '/root', '/opt', '/srv', '/mnt', '/media', '/tmp', '/var/tmp', '/var/local'],
  ])('%s is never a destination, by whatever name and with whatever leave', (path) => {
    expect(whyClosed(path)).toBeDefined();
    const closed =
      /^Permanent: .* is refused as a destination: \S+ (?:belongs to the system|is a directory of the system)/;
    expect(refusal(request('/sysvol/link'), { destinationPath: path })).toMatch(closed);
    // The schema takes no / for a path.
    if (path !== '/') expect(refusal(request(path, [path]), {})).toMatch(closed);
  });

  it.each(['/sysvol', '/sysvol/redis', '/srv/a', '/opt/data', '/var/lib/mysql', '/usrlocal', '/etcd/x', '/data/etc'])(
    '%s may be one',
    (path) => {
      expect(whyClosed(path)).toBeUndefined();
      expect(refusal(request(path), { sourcePath: '/elsewhere' })).toBe('none');
    },
  );
});

describe('the list of what is allowed', () => {
  it.each<[string, string[], string, boolean]>([
    ['/sysvol/redis', [], '/sysvol/redis', true],
    ['/sysvol/redis', [], '/data/redis', false],
    ['/sysvol/redis', ['/sysvol'], '/sysvol/other', true],
    ['/sysvol/redis', ['/sysvol'], '/sysvolume/redis', false],
    ['/sysvol/redis', ['/sysvol', '/data'], '/data/redis', true],
    ['/sysvol/redis', ['/data'], '/sysvol/redis', false],
  ])('%s with leave for %j that is really %s', (path, allowed, destinationPath, isAllowed) => {
    const said = refusal(request(path, allowed), { destinationPath });

    if (isAllowed) expect(said).toBe('none');
    else expect(said).toMatch(/^Permanent: .* lies outside of what is allowed/);
  });
});

describe('source and destination on one machine', () => {
  const bound = parseMountInfo(
    [
      '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
      '2 1 8:2 / /disk rw - ext4 /dev/sdb1 rw',
      '3 1 8:2 /data/inner /srv/inner rw - ext4 /dev/sdb1 rw',
      '4 1 8:2 /data /srv/same rw - ext4 /dev/sdb1 rw',
      '5 1 8:2 / /srv/outer rw - ext4 /dev/sdb1 rw',
      '6 1 8:1 /other /disk/data/mounted rw - ext4 /dev/sda1 rw',
    ].join('\n'),
  );

  it.each([
    ['/disk/data', '/disk/data', 'same'],
    ['/disk/data', '/disk/data/x', 'inside'],
    ['/disk/data/x', '/disk/data', 'inside'],
    ['/disk/data', '/disk/data2', 'apart'],
    ['/disk/data', '/srv/same', 'same'],
    ['/srv/same', '/disk/data', 'same'],
    ['/disk/data', '/srv/inner', 'inside'],
    ['/srv/inner', '/disk/data', 'inside'],
    ['/disk/data', '/srv/outer', 'inside'],
    ['/disk/data', '/srv/outer/data', 'same'],
    ['/disk/data', '/srv/outer/data2', 'apart'],
    ['/disk/data', '/other', 'same'],
    ['/other/x', '/disk/data', 'inside'],
    ['/disk/data', '/apart', 'apart'],
  ] as const)('%s and %s are %s', (source, destination, relation) => {
    expect(relate(bound, source, destination)).toBe(relation);
    const said = refusal(request(destination), {
      sameHost: true,
      sourcePath: source,
      destinationPath: destination,
      destinationMounts: bound,
    });
    if (relation === 'apart') expect(said).toBe('none');
    else expect(said).toMatch(/^Permanent: .* would copy a directory onto itself/);
  });
});

describe('what stands in the destination', () => {
  it.each<[string, Partial<GuardFacts>, string | RegExp]>([
    ['nothing', {}, 'none'],
    ['a stranger’s file', { firstEntry: 'precious' }, /^NeedsHuman: .* is not empty .*"precious"/],
    ['our own copy', { firstEntry: 'a', marker }, 'none'],
    [
      'our own copy that somebody has used since',
      { firstEntry: 'a', marker, changedSince: 'a/b' },
      /^NeedsHuman: new1:\/sysvol\/redis was written since it was proved .* "a\/b" changed .* ferry copy old1:\/sysvol\/redis\/ new1:\/sysvol\/redis\/ --discard-changes/,
    ],
    ['nothing any more of what was proved', { marker, changedSince: '.' }, 'none'],
    ['nothing but a marker', { marker: { ...marker, transfer: 'kafka-0' } }, 'none'],
    [
      'a copy of another transfer',
      { firstEntry: 'a', marker: { ...marker, transfer: 'kafka-0' } },
      /^NeedsHuman: .*another/,
    ],
    [
      'a copy of another migration',
      { firstEntry: 'a', marker: { ...marker, migration: 'x' } },
      /^NeedsHuman: .*another/,
    ],
    [
      'a copy from another machine',
      { firstEntry: 'a', marker: { ...marker, sourceHost: 'x' } },
      /^NeedsHuman: .*another/,
    ],
    [
      'a copy of another directory',
      { firstEntry: 'a', marker: { ...marker, sourcePath: '/x' } },
      /^NeedsHuman: .*another/,
    ],
  ])('%s', (_name, seen, expected) => {
    const said = refusal(request('/sysvol/redis'), seen);

    if (expected instanceof RegExp) expect(said).toMatch(expected);
    else expect(said).toBe(expected);
  });
});

describe('room', () => {
  const ours = { firstEntry: 'a', marker, allocatedThere: 0.9 * GiB, filesThere: 990 };

  it.each<[string, Partial<GuardFacts>, boolean, string | RegExp]>([
    ['for what is still to come alone, written in place', { ...ours, freeBytes: GiB / 5 }, true, 'none'],
    ['for the largest file beside it', { ...ours, freeBytes: GiB / 5 }, false, /too little space: 63\d(?:\.\d)? MiB/],
    ['for both', { ...ours, freeBytes: 0.7 * GiB }, false, 'none'],
    [
      'for a file with holes as for the whole tree',
      { ...ours, largestFile: 99 * GiB, freeBytes: 1.2 * GiB },
      false,
      'none',
    ],
    ['for a first copy', { filesThere: 1, allocatedThere: 4096, freeBytes: 1.1 * GiB }, false, 'none'],
    [
      'too little',
      { freeBytes: GiB / 2 },
      false,
      /^NeedsHuman: .*too little space: 1\.1 GiB are needed, 512(?:\.0)? MiB are free/,
    ],
    [
      'for the largest file when all is there',
      { ...ours, allocatedThere: GiB, freeBytes: GiB / 4 },
      false,
      /too little/,
    ],
    ['unless it is written in place', { ...ours, allocatedThere: GiB, freeBytes: GiB / 4 }, true, 'none'],
    ['for names as well', { freeInodes: 500 }, false, /^NeedsHuman: .*too few inodes: 1100 are needed, 500 are free/],
    ['for names still to come', { filesThere: 900, freeInodes: 500 }, false, 'none'],
    ['where names are not counted', { freeInodes: undefined }, false, 'none'],
  ])('%s', (_name, seen, inplace, expected) => {
    const said = refusal(request('/sysvol/redis'), seen, inplace);

    if (expected instanceof RegExp) expect(said).toMatch(expected);
    else expect(said).toBe(expected);
  });
});
