import type { ReplicateInput } from '../plan/replicate.ts';

const dayMinutes = 24 * 60;

/**
 * Bandwidth limit (KiB/s) that holds at a moment, and when to look again. Hours are UTC; an entry from 22:00 to 06:00 spans midnight; the
 * first entry that holds counts; outside of all of them the plain limit does.
 */
export function limitAt(
  schedule: ReplicateInput['schedule'],
  plainKiBps: number,
  at: Date,
): { kiBps: number; changesInMs?: number } {
  if (schedule.length === 0) return { kiBps: plainKiBps };
  const minute = at.getUTCHours() * 60 + at.getUTCMinutes();
  const entry = schedule.find(({ from, to }) => holds(minuteOf(from), minuteOf(to), minute));
  const edges = schedule.flatMap(({ from, to }) => [minuteOf(from), minuteOf(to)]);
  const minutesAhead = Math.min(...edges.map((edge) => (edge - minute + dayMinutes) % dayMinutes || dayMinutes));
  const intoMinute = at.getUTCSeconds() * 1000 + at.getUTCMilliseconds();
  return { kiBps: entry?.limitKiBps ?? plainKiBps, changesInMs: minutesAhead * 60_000 - intoMinute };
}

function holds(from: number, to: number, minute: number): boolean {
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
}

function minuteOf(clock: string): number {
  const [hours = '0', minutes = '0'] = clock.split(':');
  return Number(hours) * 60 + Number(minutes);
}
