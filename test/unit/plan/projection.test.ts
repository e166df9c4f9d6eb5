import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plan } from '../../../src/plan/plan.ts';
import { estimateOnline } from '../../../src/plan/projection.ts';
import { samplePlan } from './samples.ts';

const plan = samplePlan();

function copying(bytes: number, files: number, preCopyKiBps: number): Plan {
  return {
    ...plan,
    limits: { ...plan.limits, preCopyKiBps },
    transfers: plan.transfers.map((transfer) => ({ ...transfer, observed: { bytes, files, freeBytes: 0 } })),
  };
}

describe('the time before the window', () => {
  it('follows from the fullest host and its limit, within a fifth', () => {
    const [fullest] = copying(0, 0, 0).transfers.map(({ source }) => source.host);
    const count = plan.transfers.filter(({ source }) => source.host === fullest).length;
    const { replicate } = estimateOnline(copying(1024 ** 3, 0, 10_240));

    expect(replicate.seconds).toBeCloseTo(count * (1024 ** 3 / (10_240 * 1024) + 5));
    expect(replicate.errorSeconds).toBeCloseTo(replicate.seconds * 0.2);
  });

  it('is only half known where nothing limits the copy', () => {
    const { replicate } = estimateOnline(copying(1e9, 0, 0));

    expect(replicate.errorSeconds).toBeCloseTo(replicate.seconds * 0.5);
  });

  it('is only half known where other limits hold for hours of the day', () => {
    const of = copying(1e9, 0, 10_240);
    const preCopySchedule = [{ from: '22:00', to: '06:00', limitKiBps: 0 }];
    const { replicate } = estimateOnline({ ...of, limits: { ...of.limits, preCopySchedule } });

    expect(replicate.errorSeconds).toBeCloseTo(replicate.seconds * 0.5);
  });

  it('needs no time for images that are not prewarmed, and none for no data', () => {
    expect(estimateOnline({ ...plan, images: { prewarm: false, references: [] } }).prewarm.seconds).toBe(0);
    expect(estimateOnline({ ...plan, transfers: [] }).replicate.seconds).toBe(0);
    expect(estimateOnline(plan).prewarm.seconds).toBe(360);
  });

  it('grows with data and files, and shrinks with a higher limit', () => {
    const sizes = fc.tuple(fc.nat(2 ** 40), fc.nat(1_000_000), fc.integer({ min: 1, max: 200_000 }));
    fc.assert(
      fc.property(sizes, ([bytes, files, limit]) => {
        const { seconds } = estimateOnline(copying(bytes, files, limit)).replicate;
        expect(Number.isFinite(seconds)).toBe(true);
        expect(estimateOnline(copying(bytes + 1e9, files, limit)).replicate.seconds).toBeGreaterThan(seconds);
        expect(estimateOnline(copying(bytes, files + 1000, limit)).replicate.seconds).toBeGreaterThan(seconds);
        expect(estimateOnline(copying(bytes, files, limit * 2)).replicate.seconds).toBeLessThanOrEqual(seconds);
        expect(estimateOnline(copying(bytes, files, 0)).replicate.seconds).toBeLessThanOrEqual(seconds);
      }),
    );
  });
});
