import type { Plan } from './plan.ts';

/** Seconds with half the width of the error band. */
export interface Estimate {
  seconds: number;
  errorSeconds: number;
}

/** What one connection between two machines moves when nothing limits it, bytes per second. */
const unlimitedBytesPerSecond = 100_000_000;
/** Creating a file costs about as long as moving this many bytes. */
const bytesPerFile = 20_000;

/** Seconds of the phases before the window, which applications do not notice. */
export interface OnlineEstimate {
  preflight: Estimate;
  prewarm: Estimate;
  backup: Estimate;
  /** The first online copy of everything; later passes move only what changed. */
  replicate: Estimate;
}

/** How long the phases before the downtime take. Hosts copy side by side, the fullest one decides. */
export function estimateOnline(plan: Plan): OnlineEstimate {
  const half = (seconds: number): Estimate => ({ seconds, errorSeconds: seconds / 2 });
  const targets = plan.mapping.length;
  return {
    preflight: half(30),
    prewarm: half(plan.images.prewarm ? 120 * targets : 0),
    backup: half(5),
    replicate: firstCopy(plan),
  };
}

/** How long whole copies take in the window, without a limit: what is left where only tar can copy. One host's share of the work. */
export function estimateWholeCopy(transfers: readonly Plan['transfers'][number][]): Estimate {
  const seconds = transfers.reduce((sum, transfer) => sum + workOf(transfer) / unlimitedBytesPerSecond + 5, 0);
  return { seconds, errorSeconds: seconds / 2 };
}

/** Bytes to move, with what each file costs besides. */
function workOf({ observed }: Plan['transfers'][number]): number {
  return (observed?.bytes ?? 0) + (observed?.files ?? 0) * bytesPerFile;
}

function firstCopy(plan: Plan): Estimate {
  const limit = plan.limits.preCopyKiBps;
  const rate = limit === 0 ? unlimitedBytesPerSecond : Math.min(limit * 1024, unlimitedBytesPerSecond);
  const perHost = new Map<string, number>();
  for (const transfer of plan.transfers) {
    const { host } = transfer.source;
    perHost.set(host, (perHost.get(host) ?? 0) + workOf(transfer) / rate + 5);
  }
  const seconds = Math.max(0, ...perHost.values());
  // With one limit the rate is known; without one, or with others by the hour, it is a guess.
  const isKnown = limit > 0 && plan.limits.preCopySchedule === undefined;
  return { seconds, errorSeconds: seconds * (isKnown ? 0.2 : 0.5) };
}
