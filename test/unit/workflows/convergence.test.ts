import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PassFigures } from '../../../src/workflows/convergence.ts';
import { decide, figuresOf, project, restBetweenPasses } from '../../../src/workflows/convergence.ts';
import type { PassSummary } from '../../../src/workflows/messages.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

function pass(change: Partial<PassFigures> = {}): PassFigures {
  const literalBytes = change.literalBytes ?? 100 * MiB;
  return {
    seconds: 12,
    scanSeconds: 2,
    literalBytes,
    touchedBytes: literalBytes,
    totalBytes: 100_000 * MiB,
    limitKiBps: 0,
    ...change,
  };
}

/** Passes over a source that writes so many bytes per second, over a link that moves so many, until `count` were made. */
function simulate(count: number, writes: number, link: number, total: number, scanSeconds = 1): PassFigures[] {
  const passes: PassFigures[] = [];
  let waiting = total;
  let sinceLast: number | undefined;
  for (let index = 0; index < count; index += 1) {
    const literalBytes = Math.min(total, waiting);
    const seconds = scanSeconds + literalBytes / link;
    passes.push(pass({ seconds, scanSeconds, literalBytes, totalBytes: total, ...(sinceLast && { sinceLast }) }));
    waiting = writes * seconds;
    sinceLast = seconds;
  }
  return passes;
}

const figures: fc.Arbitrary<PassFigures> = fc.record({
  seconds: fc.double({ min: 0, max: 1e6, noNaN: true }),
  scanSeconds: fc.double({ min: 0, max: 1e4, noNaN: true }),
  literalBytes: fc.integer({ min: 0, max: 2 ** 45 }),
  touchedBytes: fc.integer({ min: 0, max: 2 ** 45 }),
  totalBytes: fc.integer({ min: 0, max: 2 ** 45 }),
  sinceLast: fc.double({ min: 0.001, max: 1e6, noNaN: true }),
  limitKiBps: fc.nat(1_000_000),
  linkBytesPerSecond: fc.nat(2 ** 34),
});
const target = { finalSeconds: 60, maxPasses: 10 };

describe('copies without deltas', () => {
  const whole = (seconds: number, totalBytes: number): PassFigures =>
    pass({ seconds, scanSeconds: 1, literalBytes: totalBytes, totalBytes, isWhole: true });

  it('take as long in the window as any of them, whatever changed meanwhile', () => {
    const { finalSeconds, errorSeconds } = project([whole(101, 1000 * MiB)]);

    expect(finalSeconds).toBeCloseTo(101);
    expect(errorSeconds).toBeCloseTo(21.2);
    expect(project([whole(101, 1000 * MiB), { ...whole(101, 1000 * MiB), sinceLast: 5000 }]).finalSeconds).toBeCloseTo(
      101,
    );
  });

  it('are ready or not after one pass, because another one would bring nothing', () => {
    expect(decide([whole(40, 1000 * MiB)], target)).toMatchObject({
      next: 'ready',
      why: /moves everything.* 40 s ± 9 s/,
    });
    const { next, why } = decide([whole(101, 1000 * MiB)], target);
    expect(next).toBe('not-converging');
    expect(why).toMatch(/101 s|1\.7 min/);
    expect(why).toContain("what would help: rsync on both machines, or the worker's lent to them");
  });

  it('are projected without the limit of the hours before', () => {
    const limited = { ...whole(1001, 1000 * MiB), limitKiBps: 1024, linkBytesPerSecond: 200 * MiB };

    expect(project([limited]).finalSeconds).toBeCloseTo(11);
  });
});

describe('the projection', () => {
  it('knows nothing before the first pass', () => {
    expect(project([])).toMatchObject({ finalSeconds: 0, dirtyBytesPerSecond: 0 });
  });

  it('is always finite and never negative', () => {
    fc.assert(
      fc.property(fc.array(figures, { minLength: 1, maxLength: 30 }), (passes) => {
        for (const value of Object.values(project(passes)) as number[]) {
          expect(Number.isFinite(value)).toBe(true);
          expect(value).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });

  it('never exceeds scanning, reading and copying the whole tree, unless a recent pass did', () => {
    fc.assert(
      fc.property(fc.array(figures, { minLength: 1, maxLength: 10 }), (passes) => {
        const { finalSeconds, scanSeconds, throughput, readSeconds } = project(passes);
        const all = (passes.at(-1)?.totalBytes ?? 0) / throughput + readSeconds;
        const recent = passes.map(({ seconds, literalBytes }) => Math.max(seconds, 0.001) + literalBytes / throughput);
        expect(finalSeconds).toBeLessThanOrEqual((scanSeconds + Math.max(all, ...recent)) * (1 + 1e-9));
      }),
    );
  });

  it('comes out at what a steady source and link would really take', () => {
    const rates = fc.record({
      writes: fc.integer({ min: 1, max: 40 }).map((rate) => rate * MiB),
      total: fc.integer({ min: 10_000, max: 1_000_000 }).map((size) => size * MiB),
    });
    fc.assert(
      fc.property(rates, ({ writes, total }) => {
        const link = 100 * MiB;
        const passes = simulate(12, writes, link, total);
        const last = passes.at(-1);
        const real = 1 + (writes * (last?.seconds ?? 0)) / link;
        // Deltas smaller than 8 MiB say nothing about the link: the first pass did.
        expect(project(passes).finalSeconds).toBeGreaterThan(real * 0.5);
        expect(project(passes).finalSeconds).toBeLessThan(real * 2.5);
      }),
    );
  });

  it('does not take the trickle of a quiet pass for the speed of the link', () => {
    const passes = [pass({ literalBytes: 10_000 * MiB, seconds: 102 }), pass({ literalBytes: 1000, sinceLast: 102 })];

    expect(project(passes).throughput).toBeCloseTo(100 * MiB, -3);
  });

  it.each<[string, Partial<PassFigures>[], number]>([
    ['a pass without a limit, though a limited one came later', [{}, { limitKiBps: 1024, seconds: 102 }], 10],
    ['half of what the wire carried, while all were limited', [{ limitKiBps: 1024, seconds: 102 }], 40],
    [
      'what a limited pass reached, when that is more',
      [{ limitKiBps: 90_000, seconds: 4, literalBytes: 180 * MiB }],
      90,
    ],
    ['half of what the wire carried, when no pass told anything', [{ literalBytes: 0 }], 40],
  ])('of a final delta without a limit takes %s', (_name, changes, expected) => {
    const passes = changes.map((change) => pass({ linkBytesPerSecond: 80 * MiB, ...change }));

    expect(project(passes).throughput / MiB).toBeCloseTo(expected, 1);
  });

  it('rests on the limited passes where the wire was never tried', () => {
    const passes = [pass({ limitKiBps: 1024, seconds: 102 })];

    expect(project(passes).throughput).toBeCloseTo(MiB, -3);
  });

  it('of a limited copy fits where the final delta would, because that has no limit', () => {
    const limited = simulate(4, MiB, 2 * MiB, 10_000 * MiB).map((one) => ({ ...one, limitKiBps: 2048 }));
    const tried = limited.map((one) => ({ ...one, linkBytesPerSecond: 200 * MiB }));

    expect(decide(limited, target).next).not.toBe('ready');
    expect(decide(tried, target).next).toBe('ready');
  });
});

describe('files that change in part', () => {
  /** One file of 500 GiB: the first pass moves it, the next ones read all of it and move a hundredth. */
  const first = pass({ seconds: 5000, scanSeconds: 2, literalBytes: 500 * GiB, totalBytes: 500 * GiB });
  const delta = (change: Partial<PassFigures> = {}): PassFigures =>
    pass({
      seconds: 1250,
      scanSeconds: 2,
      literalBytes: 5 * GiB,
      touchedBytes: 500 * GiB,
      totalBytes: 500 * GiB,
      sinceLast: 5000,
      ...change,
    });
  const quiet = delta({ seconds: 3, literalBytes: 0, touchedBytes: 0, sinceLast: 1250 });
  const limited: Partial<PassFigures> = { limitKiBps: 50_000, linkBytesPerSecond: 100 * MiB };

  it.each<[string, PassFigures[], number, number]>([
    ['are read as a whole in the final delta', [first, delta()], 1250, 1400],
    ['are so without a first copy in sight', [delta(), delta({ sinceLast: 1250 })], 1250, 1400],
    ['are so where the one pass that is known went on from an earlier copy', [delta()], 1250, 1400],
    ['are so beside a limit', [{ ...first, ...limited, seconds: 10_500 }, delta(limited)], 1200, 1450],
    [
      'are not read at the pace of the limit',
      [
        { ...first, ...limited, limitKiBps: 5000, seconds: 105_000 },
        delta({ ...limited, limitKiBps: 5000, touchedBytes: 10 * GiB, seconds: 1060 }),
      ],
      // 5 GiB at half of what the wire carried, 5 GiB read.
      102 + 51,
      102 + 60,
    ],
    ['are expected again after one quiet pass', [first, delta(), delta({ sinceLast: 1250 }), quiet], 1200, 1300],
    ['are not after two', [first, delta(), quiet, quiet], 2, 4],
    [
      'take as long as they did where neither link nor disk explains it',
      [first, delta({ touchedBytes: 6 * GiB, seconds: 900 })],
      900,
      1000,
    ],
  ])('%s', (_name, passes, least, most) => {
    const { finalSeconds } = project(passes);

    expect(finalSeconds).toBeGreaterThanOrEqual(least);
    expect(finalSeconds).toBeLessThanOrEqual(most);
  });

  it('are not ready for a window of a minute, and say that reading is what takes the time', () => {
    const passes = [first, delta({ limitKiBps: 50_000 }), delta({ limitKiBps: 50_000, sinceLast: 1250 })];
    const { why } = decide([...passes, ...passes.slice(-1)], target);

    expect(decide(passes.slice(0, 2), target).next).toBe('pass');
    expect(decide([...passes, ...passes.slice(-1)], target).next).toBe('not-converging');
    expect(why).toMatch(/stopping what writes into large files earlier, since reading them .* takes 2\d\.\d min/);
    expect(why).not.toContain('a higher bandwidth limit');
  });

  it('widen the band by what is not known of reading, and by passes that differ in it', () => {
    const steady = project([first, delta(), delta({ sinceLast: 1250 })]);
    const changing = project([first, delta({ touchedBytes: 50 * GiB, seconds: 160 }), delta({ sinceLast: 1250 })]);

    expect(steady.errorSeconds).toBeGreaterThan(steady.readSeconds / 5);
    expect(changing.errorSeconds).toBeGreaterThan(steady.errorSeconds + 400);
  });

  it('are never projected at less than half of a pass that read much and moved little', () => {
    const parts = fc.record({
      total: fc.integer({ min: 1, max: 4000 }).map((size) => size * GiB),
      share: fc.double({ min: 0.05, max: 1, noNaN: true }),
      dirty: fc.double({ min: 0.0001, max: 0.05, noNaN: true }),
      link: fc.integer({ min: 10, max: 2000 }).map((rate) => rate * MiB),
      disk: fc.integer({ min: 20, max: 5000 }).map((rate) => rate * MiB),
      scanSeconds: fc.double({ min: 0.1, max: 5, noNaN: true }),
      count: fc.integer({ min: 1, max: 6 }),
      wasTried: fc.boolean(),
    });
    fc.assert(
      fc.property(parts, ({ total, share, dirty, link, disk, scanSeconds, count, wasTried }) => {
        const tried = wasTried ? { linkBytesPerSecond: link } : {};
        const full = { seconds: scanSeconds + total / Math.min(link, disk), scanSeconds, ...tried };
        const passes = [pass({ ...full, literalBytes: total, totalBytes: total })];
        for (let index = 0; index < count; index += 1) {
          const touchedBytes = total * share;
          const literalBytes = touchedBytes * dirty;
          const seconds = scanSeconds + touchedBytes / disk + literalBytes / link;
          const sinceLast = passes.at(-1)?.seconds ?? 1;
          const about = { seconds, scanSeconds, touchedBytes, literalBytes, totalBytes: total, sinceLast };
          passes.push(pass({ ...about, ...tried }));
        }
        const { finalSeconds } = project(passes);
        const last = passes.at(-1)?.seconds ?? 0;
        expect(finalSeconds).toBeGreaterThanOrEqual(last * 0.99);
        expect(finalSeconds).toBeLessThanOrEqual(last * 3);
      }),
    );
  });
});

describe('the decision', () => {
  it('is another pass before anything was copied, and after the first', () => {
    expect(decide([], target).next).toBe('pass');
    expect(decide([pass()], target).next).toBe('pass');
  });

  it('is ready on a quiet source after two passes', () => {
    const passes = [pass({ literalBytes: 10_000 * MiB, seconds: 102 }), pass({ literalBytes: 1000, sinceLast: 102 })];
    const decision = decide(passes, target);

    expect(decision.next).toBe('ready');
    expect(decision.why).toMatch(/^the final delta is projected at \d+ s \(target 60 s\)$/);
  });

  it('is not ready after one pass, however quiet it looks', () => {
    expect(decide([pass({ literalBytes: 0, seconds: 1, totalBytes: 0 })], target).next).toBe('pass');
  });

  it('converges where the link is faster than the writers, and says so where it is not', () => {
    const link = 100 * MiB;
    const run = (writes: number): string => {
      for (let count = 1; count <= 10; count += 1) {
        const { next } = decide(simulate(count, writes, link, 500_000 * MiB), target);
        if (next !== 'pass') return next;
      }
      return 'no end';
    };

    expect(run(10 * MiB)).toBe('ready');
    expect(run(50 * MiB)).toBe('ready');
    expect(run(99 * MiB)).toBe('not-converging');
    expect(run(300 * MiB)).toBe('not-converging');
  });

  it('names what would help: the limit, and a window of the right size', () => {
    const passes = simulate(4, 99 * MiB, 100 * MiB, 500_000 * MiB).map((one) => ({ ...one, limitKiBps: 102_400 }));
    const { why } = decide(passes, target);

    expect(why).toContain('a higher bandwidth limit (signal tune)');
    expect(why).toContain('stopping the busiest writer earlier');
    expect(why).toMatch(/a window of [\d.]+ min for this directory/);
  });

  it('names a quieter hour where the writers are slow but the tree takes long to look through', () => {
    const passes = [1, 2, 3].map(() =>
      pass({ scanSeconds: 300, seconds: 301, literalBytes: 20 * MiB, sinceLast: 301 }),
    );

    expect(decide(passes, target)).toMatchObject({ next: 'not-converging' });
    expect(decide(passes, target).why).toContain('a quieter hour');
  });

  it('comes to an end within the passes that are allowed, whatever they bring', () => {
    fc.assert(
      fc.property(
        fc.array(figures, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 12 }),
        (passes, max) => {
          const { next } = decide(passes, { finalSeconds: 60, maxPasses: max });
          if (passes.length >= max) expect(next).not.toBe('pass');
        },
      ),
    );
  });

  it('never calls ready what does not fit', () => {
    fc.assert(
      fc.property(fc.array(figures, { maxLength: 12 }), fc.integer({ min: 1, max: 1000 }), (passes, finalSeconds) => {
        const decision = decide(passes, { finalSeconds, maxPasses: 10 });
        if (decision.next === 'ready') expect(decision.projection.finalSeconds).toBeLessThanOrEqual(finalSeconds);
      }),
    );
  });
});

describe('the rest while holding', () => {
  it('is at least the shortest and the last pass, and at most sixteen times the shortest or the last pass', () => {
    fc.assert(
      fc.property(fc.array(figures, { maxLength: 8 }), fc.integer({ min: 1, max: 3600 }), (passes, shortest) => {
        const rest = restBetweenPasses(passes, shortest);
        const last = passes.at(-1)?.seconds ?? 0;
        expect(rest).toBeGreaterThanOrEqual(Math.max(shortest, last) * (1 - 1e-9));
        expect(rest).toBeLessThanOrEqual(Math.max(shortest * 16, last) * (1 + 1e-9));
      }),
    );
  });

  it('leaves a twentieth of the time to copies that move everything', () => {
    expect(restBetweenPasses([pass({ seconds: 600, isWhole: true })], 60)).toBe(11_400);
    expect(restBetweenPasses([pass({ seconds: 1, isWhole: true })], 60)).toBe(60);
  });

  it('is long while nothing changes and short while much does', () => {
    const quiet = [pass(), pass({ seconds: 1, literalBytes: 0, sinceLast: 60 })];
    const busy = [pass(), pass({ seconds: 8, literalBytes: 600 * MiB, sinceLast: 60 })];

    expect(restBetweenPasses(quiet, 60)).toBe(960);
    expect(restBetweenPasses(busy, 60)).toBe(60);
  });
});

describe('figures from history', () => {
  function summary(startedAt: string, change: Partial<PassSummary & { scanSeconds: number }> = {}): PassSummary {
    return {
      pass: 1,
      mode: 'live',
      startedAt,
      seconds: 5,
      files: 1,
      filesTransferred: 1,
      deleted: 0,
      totalBytes: 100,
      literalBytes: 10,
      matchedBytes: 20,
      bytesPerSecond: 2,
      vanished: false,
      ...change,
    };
  }

  it('measure the time between the starts of passes', () => {
    const [first, second] = figuresOf([summary('2026-01-01T00:00:00Z'), summary('2026-01-01T00:01:00Z')]);

    expect(first).not.toHaveProperty('sinceLast');
    expect(second).toMatchObject({ sinceLast: 60, touchedBytes: 30, scanSeconds: 0 });
  });

  it('carry what was read and found unchanged into the projection', () => {
    const one = (startedAt: string, seconds: number, literalBytes: number, matchedBytes: number): PassSummary =>
      summary(startedAt, { seconds, literalBytes, matchedBytes, totalBytes: 500 * GiB, scanSeconds: 2 });
    const summaries = [
      one('2026-01-01T00:00:00Z', 5000, 500 * GiB, 0),
      one('2026-01-01T01:23:20Z', 1250, 5 * GiB, 495 * GiB),
    ];

    expect(project(figuresOf(summaries)).finalSeconds).toBeGreaterThan(1200);
  });

  it('know the limit that each pass had, and that older workers did not write it down', () => {
    const limited = { ...summary('2026-01-01T00:00:00Z'), limitKiBps: 5000 };
    const known = figuresOf([limited, summary('2026-01-01T00:01:00Z')]);

    expect(known.map(({ limitKiBps }) => limitKiBps)).toEqual([5000, 0]);
  });

  it('make a copy that does not converge say that a higher limit would help, and only where there is one', () => {
    const copy = (limitKiBps: number): string => {
      const summaries = [0, 1, 2, 3].map((minute) => ({
        ...summary(`2026-01-01T00:0${minute}:00Z`, {
          seconds: 60,
          totalBytes: 100_000 * MiB,
          literalBytes: 4000 * MiB,
        }),
        scanSeconds: 1,
        limitKiBps,
      }));
      return decide(figuresOf(summaries), { finalSeconds: 10, maxPasses: 10 }).why;
    };

    expect(copy(70_000)).toContain('a higher bandwidth limit (signal tune)');
    expect(copy(0)).not.toContain('limit (signal tune)');
  });

  it('do not believe a clock that went backwards', () => {
    const [, second] = figuresOf([summary('2026-01-01T00:01:00Z'), summary('2026-01-01T00:00:00Z')]);

    expect(second).not.toHaveProperty('sinceLast');
  });
});
