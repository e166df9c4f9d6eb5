import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EndFacts, RsyncFacts, TreeFacts, Wishes } from '../../../src/activities/rsync-options.ts';
import {
  chooseCopy,
  CopyRefused,
  isAtLeast,
  parseRsyncVersion,
  rsyncOptions,
} from '../../../src/activities/rsync-options.ts';
import { parseTrial } from '../../../src/activities/transfer-road.ts';
import { explain } from '../../../src/activities/transfer-conclusion.ts';

const MiB = 1024 ** 2;

function rsync(version: string, change: Partial<RsyncFacts> = {}): RsyncFacts {
  return { version, acls: true, xattrs: true, compress: ['zstd', 'lz4', 'zlib'], ...change };
}
function end(version: string | undefined, change: Partial<EndFacts> = {}): EndFacts {
  return {
    rsync: version === undefined ? undefined : rsync(version),
    nanoseconds: true,
    ciphers: ['aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com'],
    aesInHardware: true,
    digests: { sha256: 500e6 },
    cores: 4,
    ...change,
  };
}
const tree: TreeFacts = {
  hardLinks: false,
  acls: false,
  xattrs: false,
  largestFile: MiB,
  files: 100,
  bytes: 100 * MiB,
};
const wishes: Wishes = { mode: 'live', sameHost: false, limitKiBps: 0, linkBytesPerSecond: 0 };

function choose(
  source: EndFacts,
  destination: EndFacts = source,
  data = tree,
  wanted = wishes,
): ReturnType<typeof chooseCopy> {
  return chooseCopy(source, destination, data, wanted);
}

describe('rsync --version', () => {
  const modern = `rsync  version 3.4.1  protocol version 32
Capabilities:
    64-bit files, 64-bit inums, 64-bit timestamps, 64-bit long ints,
    socketpairs, symlinks, symtimes, hardlinks, hardlink-specials,
    hardlink-symlinks, IPv6, atimes, batchfiles, inplace, append, ACLs,
    xattrs, optional secluded-args, iconv, prealloc, stop-at, no crtimes
Checksum list:
    xxh128 xxh3 xxh64 (xxhash) md5 md4 sha1 none
Compress list:
    zstd lz4 zlibx zlib none
Daemon auth list:
    sha512 sha256 sha1 md5 md4

rsync comes with ABSOLUTELY NO WARRANTY.`;
  const old = `rsync  version 3.1.2  protocol version 31
Capabilities:
    64-bit files, 64-bit inums, 64-bit timestamps, 64-bit long ints,
    socketpairs, hardlinks, symlinks, IPv6, batchfiles, inplace,
    append, no ACLs, xattrs, iconv, symtimes, prealloc`;

  it.each([
    ['3.4', modern, { version: '3.4.1', acls: true, xattrs: true, compress: ['zstd', 'lz4', 'zlibx', 'zlib'] }],
    ['3.1 without ACLs', old, { version: '3.1.2', acls: false, xattrs: true, compress: ['zlib'] }],
    ['another program', 'openrsync: protocol version 29', undefined],
    ['nothing', '', undefined],
  ])('of %s', (_name, text, facts) => {
    expect(parseRsyncVersion(text)).toEqual(facts);
  });
});

describe('versions', () => {
  it.each([
    ['3.1.3', '3.1.3', true],
    ['3.10.0', '3.9.9', true],
    ['3.1', '3.1.0', true],
    ['3.1.2', '3.1.3', false],
    ['2.6.9', '3.0.0', false],
    ['4.0', '3.4.1', true],
  ])('%s is at least %s: %s', (left, right, expected) => {
    expect(isAtLeast(left, right)).toBe(expected);
  });

  it('are ordered', () => {
    const version = fc.tuple(fc.nat(9), fc.nat(20), fc.nat(20)).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(version, version, (left, right) => {
        expect(isAtLeast(left, left)).toBe(true);
        expect(isAtLeast(left, right) || isAtLeast(right, left)).toBe(true);
        if (isAtLeast(left, right) && isAtLeast(right, left)) expect(left).toBe(right);
      }),
    );
  });
});

/** What each pair of versions can do: the older one decides. */
const table: [string | undefined, string | undefined, Partial<ReturnType<typeof chooseCopy>>][] = [
  ['3.4.1', '3.4.1', { tool: 'rsync', nanoseconds: true, inplace: true, info: true }],
  ['3.3.0', '3.3.0', { tool: 'rsync', nanoseconds: true, inplace: true, info: true }],
  ['3.2.7', '3.4.1', { tool: 'rsync', nanoseconds: true, inplace: false, info: true }],
  ['3.4.1', '3.1.3', { tool: 'rsync', nanoseconds: true, inplace: false, info: true }],
  ['3.1.2', '3.1.2', { tool: 'rsync', nanoseconds: false, inplace: false, info: true }],
  ['3.1.0', '3.4.1', { tool: 'rsync', nanoseconds: false, inplace: false, info: true }],
  ['3.0.9', '3.4.1', { tool: 'rsync', nanoseconds: false, inplace: false, info: false }],
  [undefined, '3.4.1', { tool: 'tar', inplace: false, info: false }],
  ['3.4.1', undefined, { tool: 'tar', inplace: false, info: false }],
  [undefined, undefined, { tool: 'tar', inplace: false, info: false }],
];

describe('what both machines can do', () => {
  it.each(table)('%s to %s', (source, destination, expected) => {
    expect(choose(end(source), end(destination))).toMatchObject({
      sparse: true,
      streams: expected.tool === 'tar' ? 1 : 4,
      ...expected,
    });
  });

  it.each([
    ['as many as cores, at most four', 16, 8, false, 4],
    ['no more than the weaker machine has cores', 16, 2, false, 2],
    ['one on a machine with one core', 1, 16, false, 1],
    ['one where files have several names', 16, 16, true, 1],
  ])('streams: %s', (_name, from, to, hardLinks, streams) => {
    const there = [end('3.4.1', { cores: from }), end('3.4.1', { cores: to })] as const;
    expect(choose(...there, { ...tree, hardLinks }).streams).toBe(streams);
  });

  it.each([
    ['too old', end('2.6.9'), end('3.4.1'), tree, /too old to carry ACLs/],
    ['too old there', end('3.4.1'), end('2.6.9'), tree, /too old to carry ACLs/],
    [
      'no ACLs where the tree has some',
      end('3.4.1', { rsync: rsync('3.4.1', { acls: false }) }),
      end('3.4.1'),
      { ...tree, acls: true },
      /has ACLs, and rsync 3\.4\.1 of the source/,
    ],
    [
      'no xattrs there',
      end('3.4.1'),
      end('3.4.1', { rsync: rsync('3.4.1', { xattrs: false }) }),
      { ...tree, xattrs: true },
      /has extended attributes, and rsync 3\.4\.1 of the destination/,
    ],
  ])('refuses what would lose something: %s', (_name, source, destination, data, why) => {
    expect(() => choose(source, destination, data)).toThrow(CopyRefused);
    expect(() => choose(source, destination, data)).toThrow(why);
  });

  it.each([
    ['by rsync', end('3.4.1')],
    ['by tar', end(undefined)],
  ])('refuses labels of SELinux that would stand at the destination alone, %s', (_name, plain) => {
    const on = { ...plain, selinux: true };
    const off = { ...plain, selinux: false };

    expect(() => choose(off, on)).toThrow(/^SELinux labels every file at the destination, and is off at the source$/);
    for (const [source, destination] of [
      [on, on],
      [on, off],
      [off, off],
      [plain, on],
    ] as const) {
      expect(() => choose(source, destination)).not.toThrow();
    }
  });

  it('lets incomplete builds copy trees that have nothing to lose', () => {
    const bare = end('3.4.1', { rsync: rsync('3.4.1', { acls: false, xattrs: false }) });

    expect(choose(bare).tool).toBe('rsync');
  });

  it('compares to the second where the destination keeps no nanoseconds, and says so', () => {
    const choice = choose(end('3.4.1'), end('3.4.1', { nanoseconds: false }));

    expect(choice.nanoseconds).toBe(false);
    expect(choice.reasons.join()).toContain('keeps no nanoseconds');
  });

  it('never writes in place where files have several names', () => {
    expect(choose(end('3.4.1'), end('3.4.1'), { ...tree, hardLinks: true }).inplace).toBe(false);
  });

  it.each([
    [MiB, 0],
    [64 * MiB, 16_384],
    [16 * 1024 * MiB, 16_384],
    [17 * 1024 * MiB, 0],
  ])('a largest file of %d bytes gets blocks of %d', (largestFile, blockSize) => {
    expect(choose(end('3.4.1'), end('3.4.1'), { ...tree, largestFile }).blockSize).toBe(blockSize);
  });
});

describe('what a machine lacks', () => {
  it.each([
    [{ perl: false }, {}, /no perl .* on the source,/],
    [{ perl: false }, { perl: false }, /no perl .* on the source and the destination,/],
    [{ rsync: undefined, completeTar: true }, { completeTar: false }, /tar on the destination carries no ACLs/],
  ] as [Partial<EndFacts>, Partial<EndFacts>, RegExp][])('is told before the copy: %j %j', (left, right, why) => {
    expect(() => choose(end('3.4.1', left), end('3.4.1', right))).toThrow(why);
  });

  it('is no matter where it is not needed', () => {
    const simple = { perl: true, completeTar: false };
    expect(choose(end('3.4.1', simple), end('3.4.1', simple)).tool).toBe('rsync');
  });
});

describe('compression', () => {
  const all = ['zstd', 'lz4', 'zlib'];

  it.each<[string, Partial<Wishes>, string[], number, string, RegExp]>([
    ['an unknown wire', {}, all, 4, 'none', /speed of the wire is not known/],
    ['ten gigabits', { linkBytesPerSecond: 1000 * MiB }, all, 16, 'none', /slower than the wire \(1000 MiB\/s\)/],
    ['two gigabits', { linkBytesPerSecond: 240 * MiB }, all, 4, 'lz4', /by lz4/],
    ['two gigabits with few cores', { linkBytesPerSecond: 240 * MiB }, all, 2, 'none', /would be slower/],
    ['two gigabits without lz4', { linkBytesPerSecond: 240 * MiB }, ['zstd', 'zlib'], 8, 'none', /would be slower/],
    ['a gigabit and a quarter', { linkBytesPerSecond: 140 * MiB }, all, 2, 'zstd 1', /zstd at level 1/],
    ['a gigabit', { linkBytesPerSecond: 112 * MiB }, all, 2, 'zstd 3', /zstd at level 3: the wire \(112 MiB\/s\)/],
    ['a gigabit without zstd', { linkBytesPerSecond: 112 * MiB }, ['lz4', 'zlib'], 2, 'lz4', /by lz4/],
    ['a gigabit with zlib alone', { linkBytesPerSecond: 112 * MiB }, ['zlib'], 4, 'none', /zlib, all that both/],
    ['a slow wire', { linkBytesPerSecond: 11 * MiB }, all, 2, 'zstd 3', /zstd at level 3/],
    ['a slow wire without zstd', { linkBytesPerSecond: 20 * MiB }, ['lz4', 'zlib'], 2, 'lz4', /by lz4/],
    ['a slow wire with zlib alone', { linkBytesPerSecond: 20 * MiB }, ['zlib'], 4, 'none', /zlib, all that both/],
    ['a very slow wire with zlib alone', { linkBytesPerSecond: MiB }, ['zlib'], 4, 'zlib', /very slow/],
    ['a low limit', { limitKiBps: 10_240, linkBytesPerSecond: 100 * MiB }, all, 2, 'zstd 3', /the limit \(10 MiB\/s\)/],
    [
      'a limit above the wire',
      { limitKiBps: 204_800, linkBytesPerSecond: 50 * MiB },
      all,
      2,
      'zstd 3',
      /the wire \(50/,
    ],
    ['a limit and an unknown wire', { limitKiBps: 1024 }, all, 2, 'zstd 3', /the limit \(1 MiB\/s\)/],
  ])('over %s', (_name, change, compress, cores, expected, reason) => {
    const both = end('3.4.1', { rsync: rsync('3.4.1', { compress }), cores });

    const choice = choose(both, both, tree, { ...wishes, ...change });

    expect([choice.compress, ...(choice.compressLevel === undefined ? [] : [choice.compressLevel])].join(' ')).toBe(
      expected,
    );
    expect(choice.reasons.join('; ')).toMatch(reason);
  });

  it('is for wires only', () => {
    const choice = choose(end('3.4.1'), end('3.4.1'), tree, { ...wishes, sameHost: true, limitKiBps: 1 });

    expect(choice).toMatchObject({ compress: 'none', reasons: [] });
  });

  it('is what both ends have', () => {
    const left = end('3.4.1', { rsync: rsync('3.4.1', { compress: ['zstd', 'zlib'] }) });
    const right = end('3.4.1', { rsync: rsync('3.4.1', { compress: ['lz4', 'zlib'] }) });

    expect(choose(left, right, tree, { ...wishes, linkBytesPerSecond: MiB }).compress).toBe('zlib');
  });

  it.each([
    ['all hole, at a limit', ['zlib'], 10_000, 10_100, 50 * 1024, 'zlib', /compressed by zlib: 10000 MiB of holes/],
    ['all data', ['zlib'], 0, 10_100, 50 * 1024, 'none', /zlib, all that both machines have, is slower/],
    ['hardly any hole', ['zlib'], 100, 10_100, 50 * 1024, 'none', /zlib, all that both machines have, is slower/],
    ['all hole, on a fast wire', ['zlib'], 10_000, 10_100, 900 * 1024, 'none', /it would be slower/],
    ['all hole, and zstd', ['zstd', 'lz4', 'zlib'], 10_000, 10_100, 400 * 1024, 'zstd', /by zstd: 10000 MiB of holes/],
    ['half hole, and zstd', ['zstd', 'lz4', 'zlib'], 5000, 10_000, 300 * 1024, 'lz4', /by lz4: 5000 MiB of holes/],
  ])('of files that are %s', (_name, compress, holes, mebibytes, limitKiBps, expected, reason) => {
    const both = end('3.4.1', { rsync: rsync('3.4.1', { compress }), cores: 2 });
    const data = { ...tree, holes: holes * MiB, bytes: mebibytes * MiB };

    const choice = choose(both, both, data, { ...wishes, limitKiBps });

    expect(choice.compress).toBe(expected);
    expect(choice.reasons.join('; ')).toMatch(reason);
  });
});

describe('tar carries the first copy', () => {
  const complete = end('3.4.1', { completeTar: true, cores: 2 });
  const simple = end('3.4.1', { completeTar: false, cores: 2 });
  const holes = { holes: 10_000 * MiB, bytes: 10_100 * MiB };

  it.each<[string, boolean, EndFacts, EndFacts, Partial<TreeFacts>, Partial<Wishes>]>([
    ['over a fast wire', true, complete, complete, {}, { linkBytesPerSecond: 900 * MiB }],
    ['where the wire is not known', true, complete, complete, {}, {}],
    ['of holes that rsync would have to compress', true, complete, complete, holes, { linkBytesPerSecond: 400 * MiB }],
    ['over a wire that compression makes faster', false, complete, complete, {}, { linkBytesPerSecond: 100 * MiB }],
    ['on one machine', false, complete, complete, {}, { sameHost: true }],
    ['from a tar that knows no ACLs', false, simple, complete, {}, {}],
    ['to a tar that knows no ACLs', false, complete, simple, {}, {}],
    ['where nobody looked', false, end('3.4.1'), end('3.4.1'), {}, {}],
  ])('%s: %s', (_name, expected, source, destination, data, wanted) => {
    const choice = choose(source, destination, { ...tree, ...data }, { ...wishes, ...wanted });

    expect(choice.tarFirst === true).toBe(expected);
    expect(choice.tool).toBe('rsync');
  });
});

describe('the trial of the wire', () => {
  it.each([
    ['ferry-ready\nferry-trial 16777216 0.16\n', 104_857_600],
    ['ferry-ready\nferry-trial 8388608 2.0\n', 4_194_304],
    ['ferry-ready\nferry-trial 67108864 0.0625\n', 1_073_741_824],
    ['ferry-ready\nferry-trial 67108864 6.25e-02\n', 1_073_741_824],
    ['ferry-ready\nferry-trial 0 1.0\n', 0],
    ['ferry-ready\nferry-trial 16777216 0\n', 0],
    ['ferry-ready\n', 0],
    ['ferry-ready\nferry-trial 16777216 0.16\nferry-tasks 5 2\nferry-tasks 8 2\n', 104_857_600],
    ['ferry-ready\nferry-trial 16777216 0.16\nferry-tasks 40 2\nferry-tasks 3 2\n', 0],
    ['ferry-ready\nferry-trial 16777216 0.16\nferry-tasks 3 64\nferry-tasks 9 2\n', 0],
  ])('%j carries %d bytes per second', (answer, expected) => {
    expect(parseTrial(answer)).toBe(expected);
  });

  it('is kept with the choice, where there was one', () => {
    const both = end('3.4.1');

    expect(choose(both, both, tree, { ...wishes, linkBytesPerSecond: 1234.5 }).linkBytesPerSecond).toBe(1235);
    expect(choose(both)).not.toHaveProperty('linkBytesPerSecond');
  });
});

describe('what a pass says about itself', () => {
  const choice = choose(end('3.4.1'));
  const said = (options: string | undefined, change: Partial<typeof choice> = {}): string =>
    explain({ limitKiBps: 0, content: 'changed', choice: { ...choice, ...change } }, { doubtful: 0, options });

  it('is that it wrote in place only where it did', () => {
    expect(said('-aHAX -S --inplace')).toContain('; written in place');
    expect(said('-aHAX -S --partial')).toContain('not written in place: files at the destination have several names');
    expect(said('-aHAX -S --partial')).not.toContain('; written in place');
    expect(said('-aHAX -S --partial', { inplace: false })).not.toContain('in place');
  });

  it('is how many streams there were, where there were several', () => {
    const about = { limitKiBps: 0, content: 'changed', choice } as const;
    expect(explain(about, { doubtful: 0, options: '', streams: 'doubtful 2;fill 4;' })).toContain(
      '; 4 streams side by side',
    );
    expect(explain(about, { doubtful: 0, options: '', streams: '' })).not.toContain('streams');
  });

  it('is who carried a first copy', () => {
    const about = { limitKiBps: 0, content: 'changed', choice } as const;
    expect(explain(about, { doubtful: 0, options: '', streams: 'fill 2;tar 2;' })).toContain(
      '; first copy by tar, looked over by rsync; 2 streams side by side;',
    );
    expect(explain(about, { doubtful: 0, options: '', streams: 'alone 1;' })).toContain(
      '; first copy by tar, which the next pass looks over; ',
    );
    expect(explain(about, { doubtful: 0, options: '', streams: 'tar 1;' })).not.toContain('streams');
    expect(explain(about, { doubtful: 0, options: '', streams: 'fill 2;' })).not.toContain('tar');
  });

  it('is the choice where an older worker began the pass', () => {
    expect(said(undefined)).toContain('; written in place');
  });
});

describe('a choice that is not the usual one', () => {
  const digests = { sha256: 500e6, blake2b: 800e6 };

  it.each<[string, EndFacts, Partial<TreeFacts>, string]>([
    ['of the cipher', end('3.4.1', { aesInHardware: false }), {}, 'cipher ChaCha20: no AES in hardware'],
    ['of the digest', end('3.4.1', { digests }), {}, 'digest blake2b: faster than sha256 on both machines'],
    ['of the blocks', end('3.4.1'), { largestFile: 96 * MiB }, 'blocks of 16 KiB: a file of 96 MiB'],
    ['of the streams', end('3.4.1'), { hardLinks: true }, 'one stream: some file has several names'],
  ])('%s is explained, and the usual one is not', (_name, ends, data, reason) => {
    expect(choose(ends, ends, { ...tree, ...data }).reasons).toContain(reason);
    expect(choose(end('3.4.1')).reasons).not.toContain(reason);
    expect(choose(ends, ends, { ...tree, ...data }, { ...wishes, sameHost: true }).reasons.join()).not.toMatch(
      /cipher|stream/,
    );
  });
});

describe('cipher and digest', () => {
  it('put AES first where both machines have it in hardware, ChaCha otherwise', () => {
    expect(choose(end('3.4.1')).cipher).toMatch(/^aes128-gcm@openssh\.com,/);
    expect(choose(end('3.4.1'), end('3.4.1', { aesInHardware: false })).cipher).toMatch(/^chacha20/);
  });

  it('name only ciphers that the source knows', () => {
    expect(choose(end('3.4.1', { ciphers: ['aes256-ctr', 'unheard-of'] })).cipher).toBe('aes256-ctr');
  });

  it.each<[EndFacts['digests'], EndFacts['digests'], string]>([
    [{ sha256: 500e6, blake2b: 800e6 }, { sha256: 500e6, blake2b: 800e6 }, 'blake2b'],
    [{ sha256: 500e6, blake2b: 520e6 }, { sha256: 500e6, blake2b: 520e6 }, 'sha256'],
    [{ sha256: 500e6, blake2b: 800e6 }, { sha256: 500e6 }, 'sha256'],
    [{}, {}, 'sha256'],
  ])('%j and %j take %s', (source, destination, digest) => {
    expect(choose(end('3.4.1', { digests: source }), end('3.4.1', { digests: destination })).digest).toBe(digest);
  });
});

describe('the options', () => {
  const versions = fc.constantFrom('3.0.9', '3.1.0', '3.1.2', '3.1.3', '3.2.7', '3.3.0', '3.4.1');
  const trees = fc.record({
    hardLinks: fc.boolean(),
    acls: fc.boolean(),
    xattrs: fc.boolean(),
    largestFile: fc.nat(2 ** 36),
    files: fc.nat(),
    bytes: fc.nat(),
  });

  it('always keep everything a tree has, and never ask a version for what it does not know', () => {
    fc.assert(
      fc.property(versions, versions, trees, fc.nat(200_000), fc.nat(200 * MiB), (left, right, data, limit, link) => {
        const choice = choose(end(left), end(right), data, { ...wishes, limitKiBps: limit, linkBytesPerSecond: link });
        const options = rsyncOptions(choice, limit);
        const both = (version: string): boolean => isAtLeast(left, version) && isAtLeast(right, version);

        expect(options).toEqual(expect.arrayContaining(['-aHAX', '--numeric-ids']));
        expect(options.includes('--inplace')).not.toBe(options.includes('--partial'));
        if (options.includes('--inplace')) expect(both('3.3.0') && !data.hardLinks).toBe(true);
        if (options.includes('--modify-window=-1')) expect(both('3.1.3')).toBe(true);
        if (options.some((option) => option.startsWith('--info'))) expect(both('3.1.0')).toBe(true);
        expect(options.includes(`--bwlimit=${limit}`)).toBe(limit > 0);
        expect(options).not.toContain('--delete');
        expect(options.every((option) => option.startsWith('-') && !/\s/.test(option))).toBe(true);
      }),
    );
  });

  it('name the compression that was chosen', () => {
    const choice = choose(end('3.4.1'));

    expect(rsyncOptions({ ...choice, compress: 'zstd' }, 0)).toContain('--compress-choice=zstd');
    expect(rsyncOptions({ ...choice, compress: 'none' }, 0).join()).not.toContain('compress');
  });
});
