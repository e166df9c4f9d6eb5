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
  /** Seconds of the final delta in which files are read, at both ends, only to find that most of them is there already. */
  readSeconds: number;
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
/**
 * Bytes per second at which both ends read and compare what changed in part. A pass must prove more with all of its time: where a limit
 * made it long, reading hides behind it.
 */
const assumedReading = 100 * 1024 * 1024;
/** A pass that moved, or read, less than this says nothing about how fast that goes. */
const telling = 8 * 1024 * 1024;
/** How far off the speed of reading may be, as a part of the time: what is in the page cache comes faster. */
const errorOfReading = 0.25;
/** The newest passes tell; those before them had other hours. */
const recentPasses = 4;
/** Files come slower than the zeros that the wire was tried with: disks, small files, checksums. */
const shareOfLink = 0.5;
/** The next delta must shrink at least so much for another pass to be worth it. */
const worthwhileGain = 0.1;

/**
 * What the final delta would take, from the figures of real passes. The delta that waits after a pass is what got dirty since that pass
 * began. Besides moving it, the files in which it lies are read as a whole: as many bytes of them as the newest passes found unchanged. It is
 * not projected shorter than a recent pass was that had no more to move and to read. The final delta has no limit: its throughput comes from the passes without one that moved enough to tell. While all of them
 * were limited it is taken from what the wire carried when it was tried, and where that is unknown the limited figure stands, which
 * makes the projection too long rather than too short.
 * `stoppedAfter`: seconds from the start of the newest pass until the source stops, where that is more than one pass from now. What gets
 * dirty meanwhile has to be moved as well; the large files in which it lies are not read more often for it.
 */
export function project(passes: readonly PassFigures[], stoppedAfter = 0): Projection {
  const last = passes.at(-1);
  if (last === undefined) {
    return {
      finalSeconds: 0,
      errorSeconds: 0,
      dirtyBytesPerSecond: 0,
      throughput: assumedThroughput,
      scanSeconds: 0,
      readSeconds: 0,
    };
  }
  const throughput = throughputOf(passes);
  if (last.isWhole === true) return projectWhole(last, throughput);
  const scanSeconds = median(passes.slice(-3).map((pass) => pass.scanSeconds));
  const rates = dirtyRates(passes);
  const rate = rates.at(-1) ?? 0;
  const usualWindow = Math.max(last.seconds, last.sinceLast ?? last.seconds);
  const window = Math.max(usualWindow, stoppedAfter);
  const deltas = passes.filter(isDelta).slice(-recentPasses);
  const waiting = Math.min(rates.length === 0 && isDelta(last) ? last.literalBytes : rate * window, last.totalBytes);
  const reading = readingOf(passes, throughput);
  const unchanged = Math.min(unchangedNext(deltas, usualWindow), Math.max(0, last.totalBytes - waiting));
  const readSeconds = unchanged / reading;
  const modelled = waiting / throughput + readSeconds;
  const longest = Math.max(
    0,
    ...deltas
      .filter((pass) => pass.literalBytes <= waiting * 1.01 && unchangedIn(pass) <= unchanged * 1.01)
      .map((pass) => withoutLimit(pass, throughput)),
  );
  // Passes that only move are as fast as the fastest of them; how far the others were from it is in the band.
  const working = unchanged >= telling ? Math.max(modelled, longest) : modelled;
  const spread = rates.length < 2 ? rate : spreadOf(rates.slice(-recentPasses));
  const errorSeconds =
    Math.min(spread * window, last.totalBytes) / throughput / 2 +
    spreadOf(deltas.map(unchangedIn)) / reading / 2 +
    errorOfReading * readSeconds +
    Math.max(0, longest - working) +
    0.2 * scanSeconds +
    1;
  return {
    finalSeconds: scanSeconds + working,
    errorSeconds,
    dirtyBytesPerSecond: rate,
    throughput,
    scanSeconds,
    readSeconds,
  };
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
    readSeconds: 0,
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
  if (passes.length >= 3 && !isShrinking(passes, projection.throughput)) {
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

/** Figures of summaries as they stand in history, with what is known of wire and tool; those of older workers lack the limit. */
export function figuresOf(
  summaries: readonly (PassSummary & { scanSeconds?: number; limitKiBps?: number })[],
  { linkBytesPerSecond, isWhole }: { linkBytesPerSecond?: number | undefined; isWhole?: boolean } = {},
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
      ...(linkBytesPerSecond !== undefined && { linkBytesPerSecond }),
      ...(isWhole === true && { isWhole }),
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
  // Where most of what was looked into was there already, the time went into reading and not over the wire.
  const all = passes.filter((pass) => pass.literalBytes >= telling && pass.literalBytes >= unchangedIn(pass));
  const link = passes.at(-1)?.linkBytesPerSecond ?? 0;
  const unlimited = all.filter((pass) => pass.limitKiBps === 0);
  if (link > 0 && unlimited.length === 0)
    return Math.max(1, link * shareOfLink, ...all.slice(-recentPasses).map(rateOf));
  // Without a trial of the wire every pass counts, as it did before there were trials: running copies decide as they did.
  const rates = (link > 0 ? unlimited : all).slice(-recentPasses).map(rateOf);
  return rates.length === 0 ? assumedThroughput : Math.max(1, ...rates);
}

function rateOf(pass: PassFigures): number {
  return pass.literalBytes / workingSeconds(pass);
}

/** Bytes per second at which the newest passes read what had not changed. */
function readingOf(passes: readonly PassFigures[], throughput: number): number {
  const rates = passes
    .filter((pass) => unchangedIn(pass) >= telling)
    .slice(-recentPasses)
    .map((pass) => {
      const whole = workingSeconds(pass);
      const rest = Math.max(whole - movingSeconds(pass, throughput), 0.001);
      return Math.max(1, unchangedIn(pass) / whole, Math.min(unchangedIn(pass) / rest, assumedReading));
    });
  return rates.length === 0 ? assumedReading : median(rates);
}

/** Bytes that the next delta will read and find unchanged: as in the last one, and not less than in most of the recent ones. */
function unchangedNext(deltas: readonly PassFigures[], window: number): number {
  const last = deltas.at(-1);
  if (last === undefined) return 0;
  const recent = deltas
    .slice(-3)
    .map(unchangedIn)
    .toSorted((left, right) => left - right);
  const usual = recent[Math.floor((recent.length - 1) / 2)] ?? 0;
  return Math.max((unchangedIn(last) * window) / Math.max(last.sinceLast ?? window, 0.001), usual);
}

/** A pass over what a pass before it had brought; also the first of a copy that goes on where an earlier one ended. */
function isDelta(pass: PassFigures): boolean {
  return pass.sinceLast !== undefined || unchangedIn(pass) >= telling || pass.literalBytes * 2 < pass.totalBytes;
}

function unchangedIn(pass: PassFigures): number {
  return Math.max(0, pass.touchedBytes - pass.literalBytes);
}

/** Seconds of a pass beyond looking for what changed. */
function workingSeconds(pass: PassFigures): number {
  return Math.max(pass.seconds - pass.scanSeconds, pass.seconds * 0.1, 0.001);
}

/** Seconds in which its bytes could go over the wire as it was for this pass. */
function movingSeconds(pass: PassFigures, throughput: number): number {
  const limit = pass.limitKiBps === 0 ? throughput : Math.min(pass.limitKiBps * 1024, throughput);
  return pass.literalBytes / limit;
}

/** What a pass would have worked without its limit. */
function withoutLimit(pass: PassFigures, throughput: number): number {
  if (pass.limitKiBps === 0) return workingSeconds(pass);
  return Math.max(0, workingSeconds(pass) - movingSeconds(pass, throughput)) + pass.literalBytes / throughput;
}

/** The last two deltas are each clearly less work than the one before. */
function isShrinking(passes: readonly PassFigures[], throughput: number): boolean {
  const reading = readingOf(passes, throughput);
  const [before, middle, last] = passes
    .slice(-3)
    .map((pass) => pass.literalBytes / throughput + unchangedIn(pass) / reading);
  if (before === undefined || middle === undefined || last === undefined) return true;
  return last <= middle * (1 - worthwhileGain) || (passes.length === 3 && middle <= before * (1 - worthwhileGain));
}

function explainStandstill(last: PassFigures, projection: Projection, target: Target): string {
  const ratio = projection.dirtyBytesPerSecond / projection.throughput;
  const helps: string[] = [];
  const isReading = projection.readSeconds * 2 > projection.finalSeconds;
  if (last.limitKiBps > 0 && !isReading) helps.push('a higher bandwidth limit (signal tune)');
  if (isReading) {
    helps.push(
      `stopping what writes into large files earlier, since reading them to find what changed takes ${seconds(projection.readSeconds)}`,
    );
  } else if (ratio < 0.5) helps.push('a quieter hour');
  else helps.push('stopping the busiest writer earlier, since data gets dirty nearly as fast as it travels');
  helps.push(`a window of ${seconds(projection.finalSeconds + projection.errorSeconds)} for this directory`);
  return `the final delta stays at ${seconds(projection.finalSeconds)} ± ${seconds(projection.errorSeconds)} (target ${seconds(target.finalSeconds)}); what would help: ${helps.join(', ')}`;
}

function spreadOf(values: readonly number[]): number {
  return values.length === 0 ? 0 : Math.max(...values) - Math.min(...values);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function seconds(value: number): string {
  return value < 90 ? `${Math.round(value)} s` : `${(value / 60).toFixed(1)} min`;
}
