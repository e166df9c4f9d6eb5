import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RsyncProgress, RsyncStats } from '../../../src/activities/rsync-output.ts';
import { gateBusy, gateRefused, judgeExit, parseProgress, parseStats } from '../../../src/activities/rsync-output.ts';

interface Line {
  bytes: number;
  percent: number;
  rate: string;
  files: number | undefined;
  grouped: boolean;
  old: boolean;
}

const lines: fc.Arbitrary<Line> = fc.record({
  bytes: fc.nat(2 ** 40),
  percent: fc.integer({ min: 0, max: 100 }),
  rate: fc.tuple(fc.nat(999), fc.nat(99), fc.constantFrom('B', 'kB', 'MB', 'GB')).map(([whole, part, unit]) => {
    return `${whole}.${String(part).padStart(2, '0')}${unit}`;
  }),
  files: fc.option(fc.nat(1_000_000), { nil: undefined }),
  grouped: fc.boolean(),
  old: fc.boolean(),
});

function print({ bytes, percent, rate, files, grouped, old }: Line): string {
  const number = grouped ? bytes.toLocaleString('en-US') : String(bytes);
  const end = files === undefined ? '' : ` (${old ? 'xfer#' : 'xfr#'}${files}, to-chk=0/${files + 1})`;
  return `\r${number.padStart(15)} ${String(percent).padStart(3)}% ${rate.padStart(10)}/s    0:00:12${end}`;
}

function meant({ bytes, percent, rate, files = 0 }: Line): RsyncProgress {
  const [, number, unit] = /^([\d.]+)(.*)$/.exec(rate) ?? [];
  const factor = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 }[unit ?? ''] ?? Number.NaN;
  return { bytes, percent, bytesPerSecond: Number(number) * factor, files };
}

/** Other things rsync prints between the lines of progress. */
const noise = fc.constantFrom(
  '',
  '\n',
  '\nfile-1.db\n',
  '\n100% of nothing\n',
  '\ndeleting a%20b\n',
  '\nrsync: warning\n',
);

describe('progress', () => {
  it('is that of the last line, whatever stands between', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(lines, noise), { minLength: 1, maxLength: 10 }), (printed) => {
        const text = printed.map(([line, between]) => print(line) + between).join('');
        expect(parseProgress(text)).toEqual(meant(printed.at(-1)![0]));
      }),
    );
  });

  it('is the same wherever a piece of the stream begins, as long as the last line is whole', () => {
    fc.assert(
      fc.property(
        fc.array(lines, { minLength: 2, maxLength: 10 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (printed, cut) => {
          const text = printed.map(print).join('');
          const lastLine = text.lastIndexOf('\r');
          const piece = text.slice(Math.floor(cut * lastLine));
          expect(parseProgress(piece)).toEqual(parseProgress(text));
        },
      ),
    );
  });

  it('is one that was printed, wherever the piece ends', () => {
    fc.assert(
      fc.property(
        fc.array(lines, { minLength: 1, maxLength: 6 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (printed, cut) => {
          const text = printed.map(print).join('');
          const seen = parseProgress(text.slice(0, Math.floor(cut * text.length)));
          // The count of files, which comes last, may itself be cut.
          const known = printed.map((line) => ({ ...meant(line), files: 0 }));
          if (seen !== undefined) expect(known).toContainEqual({ ...seen, files: 0 });
        },
      ),
    );
  });

  it('is the same in any pieces, each read on from the line that was cut', () => {
    const cuts = fc.array(fc.nat(40), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(fc.array(fc.tuple(lines, noise), { minLength: 1, maxLength: 8 }), cuts, (printed, sizes) => {
        const text = printed.map(([line, between]) => print(line) + between).join('');
        let seen: RsyncProgress | undefined;
        let at = 0;
        let rest = '';
        for (let index = 0; at < text.length; index += 1) {
          const size = (sizes[index % sizes.length] ?? 0) + 1;
          rest += text.slice(at, at + size);
          at += size;
          seen = parseProgress(rest) ?? seen;
          rest = rest.slice(Math.max(0, rest.lastIndexOf('\r')));
        }
        expect(seen).toEqual(parseProgress(text));
      }),
    );
  });

  it.each([
    ['nothing', ''],
    ['more than all', '   1,000 101%    1.00MB/s    0:00:01'],
    ['a number that no computer counts exactly', '99999999999999999999  50%    1.00MB/s    0:00:01'],
    ['no rate', '   1,000  50%'],
    ['names of files', 'data/100%/1.00MB'],
  ])('is none for %s', (_name, text) => {
    expect(parseProgress(text)).toBeUndefined();
  });

  it('never throws and never answers nonsense', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'0123456789,.%/skMGB:() \r\n#xfr'.split(/(?:)/)) })),
        (text) => {
          const seen = parseProgress(text);
          if (seen === undefined) return;
          expect(Number.isSafeInteger(seen.bytes)).toBe(true);
          expect(seen.percent).toBeLessThanOrEqual(100);
          expect(seen.bytesPerSecond).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(seen.files)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('statistics', () => {
  const names: [keyof RsyncStats, string][] = [
    ['files', 'Number of files'],
    ['deleted', 'Number of deleted files'],
    ['filesTransferred', 'Number of regular files transferred'],
    ['totalBytes', 'Total file size'],
    ['transferredSize', 'Total transferred file size'],
    ['literalBytes', 'Literal data'],
    ['matchedBytes', 'Matched data'],
    ['sent', 'Total bytes sent'],
    ['received', 'Total bytes received'],
  ];

  it('are read in any grouping, among other lines, from old and new versions', () => {
    const numbers = fc.tuple(...names.map(() => fc.nat(2 ** 50)));
    fc.assert(
      fc.property(numbers, fc.constantFrom('', 'en-US', 'de-DE'), fc.boolean(), (values, locale, isOld) => {
        const text = names
          .map(([field, name], index) => {
            const value = values[index] ?? 0;
            const number = locale === '' ? String(value) : value.toLocaleString(locale);
            const label = isOld && field === 'filesTransferred' ? 'Number of files transferred' : name;
            return `${label}: ${number}${field === 'files' ? ' (reg: 1, dir: 1)' : ' bytes'}`;
          })
          .join('\n');
        expect(parseStats(`sending incremental file list\n${text}\n\nsent 1 bytes`)).toEqual(
          Object.fromEntries(names.map(([field], index) => [field, values[index]])),
        );
      }),
    );
  });

  it('are undefined without a summary, and 0 where a version does not print a figure', () => {
    expect(parseStats('rsync error: …')).toBeUndefined();
    expect(parseStats('Number of files: 3\n')).toMatchObject({ files: 3, deleted: 0, literalBytes: 0 });
  });

  it('are not taken from the name of a file', () => {
    expect(parseStats('a/Number of files: 3\n')).toBeUndefined();
  });
});

describe('the end of rsync', () => {
  const vanished =
    'file has vanished: "/sysvol/a"\nrsync warning: some files vanished before they could be transferred (code 24) at main.c';
  it.each<[number, string, 'live' | 'final', string]>([
    [0, '', 'live', 'done'],
    [0, 'a warning', 'final', 'done'],
    [24, vanished, 'live', 'vanished'],
    [24, vanished, 'final', 'partial'],
    [23, vanished, 'live', 'vanished'],
    [23, vanished, 'final', 'partial'],
    [23, 'rsync: [sender] send_files failed to open "/a": Permission denied (13)', 'live', 'partial'],
    [23, '', 'live', 'partial'],
    [23, 'directory has vanished: "/a/d"\nfile has vanished: "/a/f"', 'live', 'vanished'],
    [23, 'directory has vanished: "/a/d"', 'final', 'partial'],
    [
      2,
      'file has vanished: "/a/f"\nInvalid packet at end of run (2) [sender]\nrsync error: protocol incompatibility (code 2) at main.c(937) [sender=3.5.0]',
      'live',
      'again',
    ],
    [2, 'file has vanished: "/a/f"\nInvalid packet at end of run (2) [sender]', 'final', 'broken'],
    [
      2,
      'protocol version mismatch -- is your shell clean?\nrsync error: protocol incompatibility (code 2) at compat.c(1)',
      'live',
      'broken',
    ],
    [
      23,
      'rsync: [generator] get_acl: sys_acl_get_file(f1, ACL_TYPE_DEFAULT): Permission denied (13)',
      'live',
      'vanished',
    ],
    [
      23,
      'rsync: [generator] get_acl: sys_acl_get_file(f1, ACL_TYPE_DEFAULT): Permission denied (13)\nrsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]',
      'final',
      'again',
    ],
    [
      23,
      'rsync: [generator] get_acl: sys_acl_get_file(f1, ACL_TYPE_DEFAULT): Permission denied (13)\nrsync: [sender] send_files failed to open "/a": Permission denied (13)',
      'final',
      'partial',
    ],
    [
      23,
      'rsync: [generator] get_acl: sys_acl_get_file(f1, ACL_TYPE_ACCESS): Permission denied (13)',
      'live',
      'partial',
    ],
    [11, 'rsync: write failed on "/a": No space left on device (28)', 'live', 'no-space'],
    [11, 'rsync: write failed on "/a": Disk quota exceeded (122)', 'live', 'no-space'],
    [12, gateBusy, 'live', 'busy'],
    [12, gateRefused, 'live', 'refused'],
    [255, 'Host key verification failed.', 'live', 'refused'],
    [255, 'root@new1: Permission denied (publickey).', 'live', 'refused'],
    [255, 'ssh: connect to host new1 port 22: Connection refused', 'live', 'link'],
    [255, '', 'final', 'link'],
    [11, 'rsync: [receiver] write failed on "/a": Input/output error (5)', 'live', 'disk'],
    [11, 'rsync: [receiver] write failed on "/a": Too many open files (24)', 'final', 'again'],
    [11, 'rsync: [Receiver] mkdir "/a" failed: Not a directory (20)', 'live', 'partial'],
    [11, '', 'final', 'partial'],
    [22, '', 'live', 'again'],
    [10, '', 'live', 'again'],
    [12, '', 'final', 'again'],
    [20, '', 'live', 'again'],
    [30, '', 'live', 'again'],
    [137, '', 'live', 'again'],
    [1, 'rsync: --foo: unknown option', 'live', 'broken'],
    [2, '', 'live', 'broken'],
    [99, '', 'live', 'broken'],
  ])('%d with %j in a %s pass is %s', (code, stderr, mode, kind) => {
    expect(judgeExit(code, stderr, mode === 'live').kind).toBe(kind);
  });

  it.each([
    [23, 'rsync: [receiver] mkstemp "/ro/.a.38nMud" failed: Read-only file system (30)', 'destination', /read-only/],
    [11, 'rsync: [receiver] write failed on "/d/a": File too large (27)', 'destination', /no file so large/],
    [11, 'rsync: write failed on "/d/a": Input/output error (5)', 'destination', /disk gives errors/],
    [23, 'rsync: [sender] read errors mapping "/s/a": Input/output error (5)', 'source', /disk gives errors/],
    [23, 'rsync: read errors mapping "/s/a": Input/output error (5)', 'source', /disk gives errors/],
    [
      23,
      'rsync: [generator] rsync_xal_set: lremovexattr("/d/a","security.selinux") failed: Permission denied (13)',
      'destination',
      /SELinux does not let the labels/,
    ],
    [
      23,
      'rsync: [generator] rsync_xal_set: lsetxattr("/d/a","user.x") failed: Operation not supported (95)',
      'destination',
      /keeps no ACLs/,
    ],
    [
      23,
      'rsync: [receiver] set_acl: sys_acl_set_file(a, ACL_TYPE_ACCESS): Operation not supported (95)',
      'destination',
      /keeps no ACLs/,
    ],
    [12, 'rsync: [sender] opendir "/s/d" failed: Stale file handle (116)', 'source', /storage behind/],
  ])('of %d with %j is a matter of the disk of the %s', (code, stderr, at, is) => {
    const end = judgeExit(code, stderr, true);

    expect(end).toMatchObject({ kind: 'disk', at });
    expect(end.disk?.is).toMatch(is);
  });

  it('does not take a file that bears the words of an error for one', () => {
    expect(judgeExit(12, 'some/Read-only file system', true).kind).toBe('again');
  });

  it.each([
    ['rsync: [sender] send_files failed to open "/a": Permission denied (13)', 'source'],
    ['rsync: [generator] chown "/a" failed: Operation not permitted (1)', 'destination'],
    ['rsync: chown "/a" failed: Operation not permitted (1)', 'destination'],
  ])('sends people to the machine that %j is about', (stderr, at) => {
    expect(judgeExit(23, stderr, false)).toMatchObject({ kind: 'partial', at });
  });

  it('says the code, its meaning and the first lines, without banners', () => {
    const stderr = ['Warning: Permanently added x', ...Array.from({ length: 12 }, (_, index) => `line ${index}`)].join(
      '\n',
    );
    const { why } = judgeExit(12, `${stderr}\nrsync error: bad (code 12) at io.c`, true);

    expect(why).toMatch(/^rsync ended with 12 \(error in rsync protocol data stream\): line 0; line 1/);
    expect(why).toMatch(/; and 4 more lines$/);
    expect(why).not.toContain('Permanently added');
    expect(judgeExit(99, '', true).why).toBe('rsync ended with 99 (not documented)');
  });

  it('is short, whatever was printed', () => {
    fc.assert(
      fc.property(fc.nat(300), fc.array(fc.string({ maxLength: 2000 }), { maxLength: 40 }), (code, printed) => {
        expect(judgeExit(code, printed.join('\n'), true).why.length).toBeLessThan(3_000);
      }),
    );
  });

  it('never takes a final pass for complete unless rsync ended with 0', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.string(), (code, stderr) => {
        expect(['done', 'vanished']).not.toContain(judgeExit(code, stderr, false).kind);
      }),
    );
  });
});
