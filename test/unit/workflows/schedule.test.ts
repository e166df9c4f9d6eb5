import { describe, expect, it } from 'vitest';
import { limitAt } from '../../../src/workflows/schedule.ts';

const nights = [{ from: '22:00', to: '06:00', limitKiBps: 0 }];
const office = [
  { from: '09:00', to: '12:00', limitKiBps: 1000 },
  { from: '08:00', to: '18:00', limitKiBps: 5000 },
];

describe('limitAt', () => {
  it.each([
    { name: 'no schedule', schedule: [], at: '2026-01-01T03:00:00Z', kiBps: 800, changesInMs: undefined },
    { name: 'before midnight', schedule: nights, at: '2026-01-01T23:30:00Z', kiBps: 0, changesInMs: 6.5 * 3_600_000 },
    { name: 'after midnight', schedule: nights, at: '2026-01-01T05:59:59Z', kiBps: 0, changesInMs: 1000 },
    { name: 'at the end', schedule: nights, at: '2026-01-01T06:00:00Z', kiBps: 800, changesInMs: 16 * 3_600_000 },
    { name: 'first entry counts', schedule: office, at: '2026-01-01T10:00:00Z', kiBps: 1000, changesInMs: 7_200_000 },
    { name: 'later entry', schedule: office, at: '2026-01-01T12:00:00Z', kiBps: 5000, changesInMs: 21_600_000 },
  ])('$name', ({ schedule, at, kiBps, changesInMs }) => {
    expect(limitAt(schedule, 800, new Date(at))).toEqual({ kiBps, ...(changesInMs !== undefined && { changesInMs }) });
  });
});
