import type { Try } from '../activities/contract.ts';
import type { PassSummary } from '../workflows/messages.ts';
import type { EarlierTry } from './report-history.ts';

/* What a report says. */

export type Outcome = 'running' | 'migrated' | 'rolled-back' | 'failed' | 'terminated' | 'timed-out' | 'canceled';

export interface ReportPhase {
  name: string;
  section?: number;
  state: string;
  startedAt?: string;
  endedAt?: string;
  /** When it was done on the way forward. */
  doneAt?: string;
  detail?: string;
}

export interface ReportGate {
  name: string;
  state: string;
  required?: number;
  openedAt?: string;
  decidedAt?: string;
  /** What nobody could prove; whoever approved it accepted that. */
  unproved?: string[];
}

export interface ReportDecision {
  at: string;
  decision: string;
  gate?: string;
  by: string;
  reason: string;
  via: string;
  /** Absent: the workflow has not told yet. */
  counted?: boolean;
  why?: string;
  /** Who the server recorded as the sender; absent: not found in the history. */
  identity?: string;
  projectedDowntimeSeconds?: number;
}

export interface ReportTransfer {
  id: string;
  source: string;
  destination: string;
  state: string;
  passes: PassSummary[];
  /** Size of the tree in its last pass. */
  totalBytes?: number;
  /** Bytes of content that went over the wire, all passes. */
  movedBytes: number;
  digest?: string;
  proof?: string;
}

export interface ReportPlacement {
  component: string;
  ordinal: number;
  pv: string;
  before: string;
  after?: string;
  path?: string;
  ready?: boolean;
}

export interface ReportProbe {
  component: string;
  ordinal: number;
  name: string;
  /** At rest on the old machines. */
  before?: string;
  /** At rest on the new machines. */
  after?: string;
  /** On the new machines once applications wrote there: it may have moved on, and proves nothing. */
  withApplications?: string;
  verdict: 'same' | 'different' | 'not compared yet' | 'missing' | 'never taken';
  /** Why it was never taken on the old machines. */
  why?: string;
}

export interface ReportRetry {
  at: string;
  workflowId: string;
  activity: string;
  summary: string;
  attempts: number;
  /** What the last failed try said. */
  cause: string;
  /** What each try said that another one followed, in order. */
  tries: Try[];
}

/** One message to people, and whom of the plan's targets it reached. */
export interface ReportNotification {
  at: string;
  event: string;
  gate?: string;
  delivered: string[];
  failed: { target: string; why: string }[];
}

export interface ReportFailure {
  at: string;
  workflowId: string;
  what: string;
  type: string;
  cause: string;
}

export interface ReportModel {
  madeAt: string;
  madeBy: string;
  workflowId: string;
  runs: { runId: string; startedAt: string; events: number }[];
  /** Earlier migrations under the same id; absent: the server keeps none, or did not say. */
  earlier?: EarlierTry[];
  cluster: string;
  planDigest: string;
  author: string;
  mapping: { from: string; to: string }[];
  outcome: Outcome;
  why?: string;
  startedAt: string;
  endedAt?: string;
  phases: ReportPhase[];
  gates: ReportGate[];
  downtime: {
    startedAt?: string;
    endedAt?: string;
    spentSeconds?: number;
    budgetSeconds?: number;
    /** As people saw it when they opened the window; before that from the plan alone. */
    projectedSeconds?: number;
    projectedFrom?: 'approval' | 'plan';
  };
  transfers: ReportTransfer[];
  placement: ReportPlacement[];
  probes: ReportProbe[];
  decisions: ReportDecision[];
  retries: ReportRetry[];
  failures: ReportFailure[];
  notifications: ReportNotification[];
  backup: { name: string; digest: string }[];
  versions: { name: string; version: string }[];
  /** What is missing here, and why. */
  gaps: string[];
}

/** What a history holds of tries, for whoever reads a report. */
export const retriesNote =
  'Each try hands on what the ones before it said. A try whose worker was lost leaves no word; of very many only the first and the last ones are kept. The last try of one that failed for good stands under failures.';

/** `1: …`, `2–4: …`. */
export function describeTry({ from, to, cause }: Try): string {
  return `${from === to ? from : `${from}–${to}`}: ${cause}`;
}

/** Seconds that a gate was open; undefined while nobody can know. */
export function gateWait(gate: ReportGate): number | undefined {
  if (gate.openedAt === undefined || gate.decidedAt === undefined) return undefined;
  return (Date.parse(gate.decidedAt) - Date.parse(gate.openedAt)) / 1000;
}

/** How long a phase took, without what undoing it took. */
export function phaseSeconds({ startedAt, endedAt, doneAt = endedAt, state }: ReportPhase): number | undefined {
  if (startedAt === undefined || doneAt === undefined || state === 'skipped') return undefined;
  return (Date.parse(doneAt) - Date.parse(startedAt)) / 1000;
}
