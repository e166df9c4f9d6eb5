import type { PassSummary } from './messages.ts';
import { shareOfWhole } from './shares.ts';

/** What one pass teaches the model. Seconds and bytes. */
export interface PassFigures {
  seconds: number;
  /** Seconds of it that do not depend on how much changed: flush, listing, comparison. */
  scanSeconds: number;
  /** Bytes that had to travel (literal data). */
  literalBytes: number;
  /** Size of the files that were looked into; what the disks must read. */
  touchedBytes: number;
  totalBytes: number;
  /** Seconds from the start of the pass before to the start of this one; absent for the first. */
  sinceLast?: number;
  /** KiB/s that the pass was limited to; 0 = unlimited. */
  limitKiBps: number;
  /** Bytes per second that the wire carried when it was tried without a limit; absent where it was not tried. */
  linkBytesPerSecond?: number;
  /** Every pass moves everything anew: what changed meanwhile makes no difference. */
  isWhole?: boolean;
}

export interface Projection {
  /** Seconds of the final delta if the source were stopped one pass from now. */
  finalSeconds: number;
  /** Half-width of the error band. */
  errorSeconds: number;
  /** Bytes per second that get dirty, as deltas see it. */
  dirtyBytesPerSecond: number;
  /** Bytes per second that travel. */
  throughput: number;
  scanSeconds: number;
}

export interface Decision {
  next: 'pass' | 'ready' | 'not-converging';
  projection: Projection;
  /** For people: why, and what would help. */
  why: string;
}

export interface Target {
  finalSeconds: number;
  maxPasses: number;
}

/** Throughput assumed before anything was measured, bytes per second. */
const assumedThroughput = 50 * 1024 * 1024;
/** A pass that moved less than this says nothing about throughput. */
const telling = 8 * 1024 * 1024;
/** Files come slower than the zeros that the wire was tried with: disks, small files, checksums. */
const shareOfLink = 0.5;
/** The next delta must shrink at least so much for another pass to be worth it. */
const worthwhileGain = 0.1;

/**
 * What the final delta would take, from the figures of real passes. The delta that waits after a pass is what got dirty since that pass
 * began. The final delta has no limit: its throughput comes from the passes without one that moved enough to tell. While all of them
 * were limited it is taken from what the wire carried when it was tried, and where that is unknown the limited figure stands, which
 * makes the projection too long rather than too short.
 */
export function project(passes: readonly PassFigures[]): Projection {
  const last = passes.at(-1);
  if (last === undefined) {
    return { finalSeconds: 0, errorSeconds: 0, dirtyBytesPerSecond: 0, throughput: assumedThroughput, scanSeconds: 0 };
  }
  const throughput = throughputOf(passes);
  if (last.isWhole === true) return projectWhole(last, throughput);
  const scanSeconds = median(passes.slice(-3).map((pass) => pass.scanSeconds));
  const rates = dirtyRates(passes);
  const rate = rates.length === 0 ? 0 : (rates.at(-1) ?? 0);
  const window = Math.max(last.seconds, last.sinceLast ?? last.seconds);
  const waiting = Math.min(rate * window, last.totalBytes);
  const finalSeconds = scanSeconds + waiting / throughput;
  const spread = rates.length < 2 ? rate : Math.max(...rates.slice(-4)) - Math.min(...rates.slice(-4));
  const errorSeconds = Math.min(spread * window, last.totalBytes) / throughput / 2 + 0.2 * scanSeconds + 1;
  return { finalSeconds, errorSeconds, dirtyBytesPerSecond: rate, throughput, scanSeconds };
}

/** The final copy is as long as any other, without the limit. */
function projectWhole(last: PassFigures, throughput: number): Projection {
  const moving = last.totalBytes / throughput;
  const { scanSeconds } = last;
  return {
    finalSeconds: scanSeconds + moving,
    // One pass tells little about the hour of the window.
    errorSeconds: 0.2 * (scanSeconds + moving) + 1,
    dirtyBytesPerSecond: 0,
    throughput,
    scanSeconds,
  };
}

/** Another pass, ready, or not converging. */
export function decide(passes: readonly PassFigures[], target: Target): Decision {
  const projection = project(passes);
  const last = passes.at(-1);
  if (last === undefined) return { next: 'pass', projection, why: 'nothing was copied yet' };
  if (last.isWhole === true) return decideWhole(projection, target);
  if (passes.length >= 2 && projection.finalSeconds <= target.finalSeconds) {
    return {
      next: 'ready',
      projection,
      why: `the final delta is projected at ${seconds(projection.finalSeconds)} (target ${seconds(target.finalSeconds)})`,
    };
  }
  if (passes.length >= 3 && !isShrinking(passes)) {
    return { next: 'not-converging', projection, why: explainStandstill(last, projection, target) };
  }
  if (passes.length >= target.maxPasses) {
    return projection.finalSeconds <= target.finalSeconds
      ? { next: 'ready', projection, why: `${passes.length} passes are all that are allowed; the projection fits` }
      : { next: 'not-converging', projection, why: explainStandstill(last, projection, target) };
  }
  return { next: 'pass', projection, why: 'the next pass has less to do' };
}

/** Another pass would bring nothing: one tried the road and its speed. */
function decideWhole(projection: Projection, target: Target): Decision {
  const cost = `every copy moves everything: the final one is projected at ${seconds(projection.finalSeconds)} ± ${seconds(projection.errorSeconds)} (target ${seconds(target.finalSeconds)})`;
  if (projection.finalSeconds <= target.finalSeconds) return { next: 'ready', projection, why: cost };
  const helps = `rsync on both machines, or the worker's lent to them (bringRsync), or a window of ${seconds(projection.finalSeconds + projection.errorSeconds)} for this directory`;
  return { next: 'not-converging', projection, why: `${cost}; what would help: ${helps}` };
}

/**
 * Seconds to rest before the next pass while holding: short while much gets dirty, long while nothing does, never so short that copying
 * takes more than half of the time. Where every pass moves everything it makes the last one no shorter, and takes a small share.
 */
export function restBetweenPasses(passes: readonly PassFigures[], shortest: number): number {
  const last = passes.at(-1);
  if (last === undefined) return shortest;
  if (last.isWhole === true) return Math.max(shortest, last.seconds * (1 / shareOfWhole - 1));
  const { dirtyBytesPerSecond, throughput } = project(passes);
  const busy = Math.min(1, dirtyBytesPerSecond / Math.max(1, throughput));
  const calm = shortest * (1 + 15 * (1 - Math.min(1, busy * 20)));
  return Math.max(last.seconds, Math.min(calm, shortest * 16));
}

/** Figures of summaries as they stand in history; those of older workers lack the limit. */
export function figuresOf(
  summaries: readonly (PassSummary & { scanSeconds?: number; limitKiBps?: number })[],
): PassFigures[] {
  return summaries.map((summary, index) => {
    const before = summaries[index - 1];
    const sinceLast =
      before === undefined ? undefined : (Date.parse(summary.startedAt) - Date.parse(before.startedAt)) / 1000;
    return {
      seconds: summary.seconds,
      scanSeconds: summary.scanSeconds ?? 0,
      literalBytes: summary.literalBytes,
      touchedBytes: summary.literalBytes + summary.matchedBytes,
      totalBytes: summary.totalBytes,
      limitKiBps: summary.limitKiBps ?? 0,
      ...(sinceLast !== undefined && sinceLast > 0 && { sinceLast }),
    };
  });
}

/** Dirty bytes per second seen by each pass after the first. */
function dirtyRates(passes: readonly PassFigures[]): number[] {
  return passes.flatMap((pass) =>
    pass.sinceLast === undefined ? [] : [pass.literalBytes / Math.max(pass.sinceLast, 0.001)],
  );
}

function throughputOf(passes: readonly PassFigures[]): number {
  const all = passes.filter((pass) => pass.literalBytes >= telling);
  const link = passes.at(-1)?.linkBytesPerSecond ?? 0;
  const unlimited = all.filter((pass) => pass.limitKiBps === 0);
  if (link > 0 && unlimited.length === 0) return Math.max(1, link * shareOfLink, ...all.slice(-4).map(rateOf));
  // Without a trial of the wire every pass counts, as it did before there were trials: running copies decide as they did.
  const rates = (link > 0 ? unlimited : all).slice(-4).map(rateOf);
  return rates.length === 0 ? assumedThroughput : Math.max(1, ...rates);
}

function rateOf(pass: PassFigures): number {
  return pass.literalBytes / Math.max(pass.seconds - pass.scanSeconds, pass.seconds * 0.1, 0.001);
}

/** The last two deltas are each clearly smaller than the one before. */
function isShrinking(passes: readonly PassFigures[]): boolean {
  const [before, middle, last] = passes.slice(-3).map((pass) => pass.literalBytes);
  if (before === undefined || middle === undefined || last === undefined) return true;
  return last <= middle * (1 - worthwhileGain) || (passes.length === 3 && middle <= before * (1 - worthwhileGain));
}

function explainStandstill(last: PassFigures, projection: Projection, target: Target): string {
  const ratio = projection.dirtyBytesPerSecond / projection.throughput;
  const helps: string[] = [];
  if (last.limitKiBps > 0) helps.push('a higher bandwidth limit (signal tune)');
  if (ratio < 0.5) helps.push('a quieter hour');
  else helps.push('stopping the busiest writer earlier, since data gets dirty nearly as fast as it travels');
  helps.push(`a window of ${seconds(projection.finalSeconds + projection.errorSeconds)} for this directory`);
  return `the final delta stays at ${seconds(projection.finalSeconds)} ± ${seconds(projection.errorSeconds)} (target ${seconds(target.finalSeconds)}); what would help: ${helps.join(', ')}`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function seconds(value: number): string {
  return value < 90 ? `${Math.round(value)} s` : `${(value / 60).toFixed(1)} min`;
}
