import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { requestOf } from '../../../src/workflows/copies.ts';
import { replicateInputSchema } from '../../../src/plan/replicate.ts';
import { dueInSeconds, pairOf, restSeconds, roundSeconds, shareOf } from '../../../src/workflows/shares.ts';
import { planOf } from '../../workflow/plans.ts';
import { plan } from './states.ts';

describe('shares of the bandwidth', () => {
  it('are unlimited where nothing is limited', () => {
    expect(shareOf(plan, 0, 'kafka-0')).toBe(0);
  });

  it('name a pair of machines by both ends', () => {
    expect(pairOf(plan, 'kafka-0')).toBe('old1 new1');
    expect(pairOf(plan, 'host-old2-registry')).toBe('old2 old2');
    expect(pairOf(plan, 'no-such')).toBe(' ');
  });

  it('of everything that can run at once on a host never exceed its limit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 100, max: 10_000_000 }), (atOnce, limit) => {
        const of = planOf('shares', { limits: { transfersPerHost: atOnce } });
        for (const host of ['old1', 'old2']) {
          const perPair = new Map<string, number[]>();
          for (const { id, source } of of.transfers) {
            if (source.host !== host) continue;
            const pair = pairOf(of, id);
            perPair.set(pair, [...(perPair.get(pair) ?? []), shareOf(of, limit, id)]);
          }
          const together = [...perPair.values()].flatMap((shares) => shares.slice(0, atOnce));
          const sum = together.reduce((total, share) => total + share, 0);
          expect(sum).toBeLessThanOrEqual(limit);
          // Nothing worth mentioning is given away.
          expect(sum).toBeGreaterThan(limit - together.length - 1);
        }
      }),
    );
  });

  it('never become 0, which would mean unlimited', () => {
    for (const { id } of plan.transfers) expect(shareOf(plan, 1, id)).toBe(1);
  });
});

describe('hours with another limit', () => {
  const night = { from: '22:00', to: '06:00', limitKiBps: 0 };
  const noon = { from: '12:00', to: '13:00', limitKiBps: 9000 };
  const of = planOf('hours', { limits: { preCopyKiBps: 60_000, preCopySchedule: [night, noon] } });
  const transfer = of.transfers.find(({ id }) => id === 'kafka-0')!;

  it('reach an online copy, shared like the plain limit', () => {
    const request = requestOf(of, 60_000, transfer, { mode: 'live', maxPasses: 3 });
    const limitKiBps = shareOf(of, 9000, 'kafka-0');

    expect(limitKiBps).toBeLessThan(9000);
    expect(request.limitKiBps).toBe(shareOf(of, 60_000, 'kafka-0'));
    expect(request.schedule).toEqual([night, { ...noon, limitKiBps }]);
    expect(replicateInputSchema.parse(request).schedule).toEqual(request.schedule);
  });

  it('do not hold for the last delta, nor where the plan has none', () => {
    const final = requestOf(of, 60_000, transfer, { mode: 'final', maxPasses: 1 });
    const plain = requestOf(plan, 60_000, transfer, { mode: 'live', maxPasses: 3 });

    expect(final).toMatchObject({ mode: 'final', limitKiBps: 0 });
    expect(final).not.toHaveProperty('schedule');
    expect(plain).not.toHaveProperty('schedule');
  });
});

describe('rest between rounds', () => {
  it.each([
    ['something changed', 300, 0, 5, 300],
    ['one quiet round', 300, 1, 5, 600],
    ['many quiet rounds', 300, 30, 5, 2400],
    ['a long round', 300, 0, 900, 900],
    ['a round that took days', 300, 0, 1e6, 21_600],
  ])('%s', (_name, refresh, quiet, last, expected) => {
    expect(restSeconds(refresh, quiet, last)).toBe(expected);
  });
});

describe('what a round of copies took', () => {
  const two = { ...plan, limits: { ...plan.limits, transfersPerHost: 2 } };
  const ids = plan.transfers.map(({ id }) => id);
  const [first = ''] = ids;
  const together = ids.filter((id) => pairOf(plan, id) === pairOf(plan, first));
  const took = (longest: number): number =>
    roundSeconds(two, new Map(ids.map((id) => [id, id === first ? longest : 60])));

  it('is the time of the longest copy, or of all that shared the slots of its machines', () => {
    expect(together.length).toBeGreaterThan(2);
    expect(took(3600)).toBe(3600);
    expect(took(60)).toBe((together.length * 60) / 2);
    expect(roundSeconds(plan, new Map())).toBe(0);
  });
});

describe('a directory whose every pass moves everything', () => {
  const startedAt = '2026-01-01T00:00:00Z';
  const after = (seconds: number): number => Date.parse(startedAt) + seconds * 1000;

  it.each([
    ['was never copied', undefined, 0, 0],
    ['was just copied for an hour', 3600, 3600, 19 * 3600],
    ['was copied for an hour half a day ago', 3600, 12 * 3600, 8 * 3600],
    ['was copied for an hour a day ago', 3600, 24 * 3600, 0],
    ['is small', 2, 60, 0],
  ])('that %s is due when copying takes a twentieth of the time', (_name, seconds, passed, expected) => {
    const last = seconds === undefined ? undefined : { startedAt, seconds };

    expect(dueInSeconds(last, after(passed))).toBe(expected);
  });
});
