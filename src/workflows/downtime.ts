import type { Plan, Transfer } from '../plan/plan.ts';
import { windowPhases } from '../plan/plan.ts';
import { figuresOf, project } from './convergence.ts';
import type { PhaseName, PhaseStatus, TransferStatus } from './messages.ts';

/** One stretch of time without applications. */
export interface DowntimeSpan {
  startedAt: string;
  endedAt?: string;
}

export interface Projection {
  seconds: number;
  /** Half-width of the error band, seconds. */
  errorSeconds: number;
}

/** Seconds that phases inside the window take when nothing better is known; final-copy is projected from the transfers. */
const defaultSeconds: Record<(typeof windowPhases)[number], number> = {
  'stop-apps': 120,
  'add-nodes': 240,
  'edit-secrets': 10,
  uninstall: 120,
  'stop-host-services': 60,
  'start-host-services': 240,
  reinstall: 360,
  'remove-nodes': 240,
  'start-apps': 180,
};

/** How far off a figure may be, as a part of it: a default, one learned from a rehearsal, a model of passes that did not tell its error. */
const errorOfDefault = 0.5;
const errorOfLearned = 0.15;
const errorOfModel = 0.25;
const errorOfUndo = 1;

/** Without a measured pass a final delta is guessed as a twentieth of the tree at 50 MB/s. */
const guessedShare = 0.05;
const guessedBytesPerSecond = 50_000_000;

/** What one machine reads and digests while the other end does the same; half of what was measured where all lay in memory. */
const digestedBytesPerSecond = 250 * 1024 * 1024;
/** What the comparison describes by name, size, time and rights, on a disk that has to look for them. */
const describedPerSecond = 10_000;
/** What `sampled` reads of a file at most. */
const sampledBytesPerFile = 640 * 1024;
/** Sessions to both ends, and the comparison of what they say. */
const comparisonSeconds = 2;

/** Seconds without applications until now. */
export function spentSeconds(spans: readonly DowntimeSpan[], now: number): number {
  let milliseconds = 0;
  for (const span of spans) {
    const end = span.endedAt === undefined ? now : Date.parse(span.endedAt);
    milliseconds += Math.max(0, end - Date.parse(span.startedAt));
  }
  return milliseconds / 1000;
}

export function isDown(spans: readonly DowntimeSpan[]): boolean {
  return spans.at(-1) !== undefined && spans.at(-1)?.endedAt === undefined;
}

/** The downtime begins unless it has; begins anew after applications had run again. */
export function begin(spans: readonly DowntimeSpan[], at: string): DowntimeSpan[] {
  return isDown(spans) ? [...spans] : [...spans, { startedAt: at }];
}

export function end(spans: readonly DowntimeSpan[], at: string): DowntimeSpan[] {
  return spans.map((span) => (span.endedAt === undefined ? { ...span, endedAt: at } : span));
}

/**
 * Seconds of downtime that lie inside the window of this plan, phase by phase. `stoppedAt` (ms since the epoch): when nothing writes any
 * more, where that is later than the copies project for.
 */
export function expectedSeconds(
  plan: Plan,
  transfers: readonly TransferStatus[],
  stoppedAt?: number,
): Map<PhaseName, Projection> {
  const expected = new Map<PhaseName, Projection>();
  for (const name of windowPhases) {
    if (!isInsideWindow(plan, name)) {
      continue;
    }
    const learned = plan.downtime.expectedSeconds[name];
    const seconds = learned ?? defaultSeconds[name];
    expected.set(name, { seconds, errorSeconds: seconds * (learned === undefined ? errorOfDefault : errorOfLearned) });
  }
  if (plan.transfers.length > 0) {
    expected.set('final-copy', finalCopySeconds(plan, transfers, stoppedAt));
  }
  return expected;
}

function isInsideWindow(plan: Plan, name: PhaseName): boolean {
  switch (name) {
    case 'add-nodes':
      return plan.nodes.add.length > 0;
    case 'edit-secrets':
    case 'uninstall':
    case 'reinstall':
      return plan.components.length > 0;
    case 'stop-host-services':
    case 'start-host-services':
      return plan.hostServices.hosts.length > 0;
    case 'remove-nodes':
      return plan.nodes.remove.length > 0 && plan.gates.removeNodesAfter === 'reinstall';
    default:
      return true;
  }
}

/**
 * The last deltas and the comparison of both sides after each. Transfers of one source host share its network and disks, hosts work side
 * by side: the slowest host decides.
 */
function finalCopySeconds(plan: Plan, transfers: readonly TransferStatus[], stoppedAt: number | undefined): Projection {
  const perHost = new Map<string, Projection>();
  for (const transfer of plan.transfers) {
    const status = transfers.find(({ id }) => id === transfer.id);
    const delta = deltaSeconds(transfer, status, stoppedAt);
    const comparison = verificationSeconds(plan.verify, transfer, status);
    const sum = perHost.get(transfer.source.host) ?? { seconds: 0, errorSeconds: 0 };
    perHost.set(transfer.source.host, {
      seconds: sum.seconds + delta.seconds + comparison.seconds,
      errorSeconds: sum.errorSeconds + delta.errorSeconds + comparison.errorSeconds,
    });
  }
  return slowestOf(perHost);
}

function slowestOf(perHost: ReadonlyMap<string, Projection>): Projection {
  return [...perHost.values()].reduce((slowest, host) => (host.seconds > slowest.seconds ? host : slowest), {
    seconds: 0,
    errorSeconds: 0,
  });
}

function deltaSeconds(
  { observed }: Transfer,
  status: TransferStatus | undefined,
  stoppedAt: number | undefined,
): Projection {
  if (status?.projectedFinalSeconds !== undefined) {
    const { projectedFinalSeconds: seconds, projectedErrorSeconds = seconds * errorOfModel } = status;
    const grown = grownSeconds(status, stoppedAt);
    return { seconds: seconds + grown.seconds, errorSeconds: projectedErrorSeconds + grown.errorSeconds };
  }
  const guessed = ((observed?.bytes ?? 0) * guessedShare) / guessedBytesPerSecond + 5;
  return { seconds: guessed, errorSeconds: guessed * errorOfDefault };
}

/**
 * By how much the last delta of an old copy is longer than it was projected after its last pass, for which the source would stop one pass
 * later. A pause or a block may keep copies from being freshened for hours.
 */
function grownSeconds(status: TransferStatus, stoppedAt: number | undefined): Projection {
  // The last delta itself tells nothing of how fast things change; while others of its host are still to come, it counts as it was.
  const passes = status.passes.filter(({ mode }) => mode === 'live');
  const last = passes.at(-1);
  if (last === undefined || stoppedAt === undefined) return { seconds: 0, errorSeconds: 0 };
  const figures = figuresOf(passes, status);
  const usual = project(figures);
  const old = project(figures, (stoppedAt - Date.parse(last.startedAt)) / 1000);
  const seconds = Math.max(0, old.finalSeconds - usual.finalSeconds);
  return { seconds, errorSeconds: Math.max(seconds * errorOfModel, old.errorSeconds - usual.errorSeconds) };
}

/** By how much the last deltas grow between two moments while nothing is stopped; the host whose deltas grow most decides. */
export function growthBetween(transfers: readonly TransferStatus[], from: number, to: number): Projection {
  const perHost = new Map<string, Projection>();
  for (const transfer of transfers) {
    const [host = ''] = transfer.source.split(':');
    const sum = perHost.get(host) ?? { seconds: 0, errorSeconds: 0 };
    const [before, after] = [grownSeconds(transfer, from), grownSeconds(transfer, to)];
    perHost.set(host, {
      seconds: sum.seconds + Math.max(0, after.seconds - before.seconds),
      errorSeconds: sum.errorSeconds + Math.max(0, after.errorSeconds - before.errorSeconds),
    });
  }
  return slowestOf(perHost);
}

/** Both sides are read at the same time. The size is that of the last pass, or what was seen when the plan was made. */
function verificationSeconds(
  verify: Plan['verify'],
  { observed }: Transfer,
  status: TransferStatus | undefined,
): Projection {
  const last = status?.passes.at(-1);
  const bytes = last?.totalBytes ?? observed?.bytes ?? 0;
  const files = last?.files ?? observed?.files ?? 0;
  const read = { metadata: 0, sampled: Math.min(bytes, files * sampledBytesPerFile), full: bytes }[verify];
  const seconds = comparisonSeconds + files / describedPerSecond + read / digestedBytesPerSecond;
  return { seconds, errorSeconds: seconds * errorOfDefault };
}

/**
 * The whole downtime as it looks now: what is spent, what the running phase still needs, what the phases to come need. Before the
 * window it is the projection people approve. Time that people take at gates inside the window cannot be known and is not in it.
 * On the way back (`undo`: what is still to be undone) the phases to come never come.
 */
export function projectDowntime(
  plan: Plan,
  phases: readonly PhaseStatus[],
  transfers: readonly TransferStatus[],
  spans: readonly DowntimeSpan[],
  now: number,
  undo?: readonly PhaseName[],
): Projection {
  const spent = spentSeconds(spans, now);
  if ((spans.length > 0 || undo !== undefined) && !isDown(spans)) {
    return { seconds: spent, errorSeconds: 0 };
  }
  const begun = isDown(spans) ? spans.at(-1)?.startedAt : undefined;
  const stoppedAt = begun === undefined ? now : Math.min(now, Date.parse(begun));
  const whole = expectedSeconds(plan, transfers, stoppedAt);
  if (undo !== undefined) {
    return projectUndo(whole, undo, spent);
  }
  let seconds = spent;
  let errorSeconds = 0;
  for (const [name, expected] of whole) {
    const phase = phases.find((candidate) => candidate.name === name);
    if (phase === undefined || (phase.state !== 'pending' && phase.state !== 'running')) {
      continue;
    }
    const elapsed = phase.startedAt === undefined ? 0 : Math.max(0, (now - Date.parse(phase.startedAt)) / 1000);
    seconds += Math.max(0, expected.seconds - elapsed);
    errorSeconds += expected.errorSeconds;
  }
  return { seconds, errorSeconds };
}

/** An undo takes about as long as what it undoes; copies have none. Nobody rehearses it, so the band is wide. */
function projectUndo(expected: Map<PhaseName, Projection>, undo: readonly PhaseName[], spent: number): Projection {
  const seconds = undo.reduce((sum, name) => sum + (name === 'final-copy' ? 0 : (expected.get(name)?.seconds ?? 0)), 0);
  return { seconds: spent + seconds, errorSeconds: seconds * errorOfUndo };
}
