import type { Plan } from '../plan/plan.ts';
import type { ReplicateInput } from '../plan/replicate.ts';

/** Key of the two machines between which a transfer runs. */
export function pairOf(plan: Plan, transferId: string): string {
  const transfer = plan.transfers.find((candidate) => candidate.id === transferId);
  return `${transfer?.source.host ?? ''} ${transfer?.destination.host ?? ''}`;
}

/**
 * One transfer's part of its source host's bandwidth (KiB/s; 0 = unlimited): divided among as many of the host's transfers as can run
 * at the same time, so that together they never exceed the limit.
 */
export function shareOf(plan: Plan, limitKiBps: number, transferId: string): number {
  if (limitKiBps === 0) {
    return 0;
  }
  const source = plan.transfers.find((candidate) => candidate.id === transferId)?.source.host;
  const perPair = new Map<string, number>();
  for (const transfer of plan.transfers) {
    if (transfer.source.host === source) {
      const pair = pairOf(plan, transfer.id);
      perPair.set(pair, Math.min(plan.limits.transfersPerHost, (perPair.get(pair) ?? 0) + 1));
    }
  }
  let together = 0;
  for (const count of perPair.values()) {
    together += count;
  }
  return Math.max(1, Math.floor(limitKiBps / Math.max(1, together)));
}

/** One transfer's part of the limits that the plan has for hours of the day. */
export function scheduleOf(plan: Plan, transferId: string): ReplicateInput['schedule'] {
  return (plan.limits.preCopySchedule ?? []).map((entry) => ({
    ...entry,
    limitKiBps: shareOf(plan, entry.limitKiBps, transferId),
  }));
}

/**
 * Seconds to rest before the next freshening round: the plan's cadence; twice as long after every round that found nothing new, up to
 * eight times; never shorter than the last round itself took, so that copying takes at most half of the time.
 */
export function restSeconds(refreshSeconds: number, quietRounds: number, lastRoundSeconds: number): number {
  return Math.max(refreshSeconds * 2 ** Math.min(quietRounds, 3), Math.min(lastRoundSeconds, 6 * 3600));
}

/**
 * Seconds that a round of copies took of its machines, from the seconds of each copy. The wall clock does not tell: a copy that was blocked
 * for hours copied nothing meanwhile.
 */
export function roundSeconds(plan: Plan, copies: ReadonlyMap<string, number>): number {
  const perPair = new Map<string, number>();
  for (const [id, seconds] of copies) {
    const pair = pairOf(plan, id);
    perPair.set(pair, (perPair.get(pair) ?? 0) + seconds / plan.limits.transfersPerHost);
  }
  return Math.max(0, ...copies.values(), ...perPair.values());
}

/** Copying takes at most this share of the time where every pass moves everything: it makes the last copy no shorter. */
export const shareOfWhole = 1 / 20;

/** Seconds after which such a directory may be copied again, so that its size and time stay known. */
export function dueInSeconds(last: { startedAt: string; seconds: number } | undefined, nowMs: number): number {
  if (last === undefined) return 0;
  return Math.max(0, (Date.parse(last.startedAt) - nowMs) / 1000 + last.seconds / shareOfWhole);
}
