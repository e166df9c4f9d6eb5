import { defineSearchAttributeKey } from '@temporalio/common';
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { ComponentKind, GateName } from '../plan/plan.ts';

export const taskQueue = 'ferry';

/** What `temporal workflow list --query` can ask for. The server must know them before the first migration starts. */
export const searchAttributes = {
  cluster: defineSearchAttributeKey('FerryCluster', 'KEYWORD'),
  phase: defineSearchAttributeKey('FerryPhase', 'KEYWORD'),
  awaitingGate: defineSearchAttributeKey('FerryAwaitingGate', 'KEYWORD'),
  downtimeStart: defineSearchAttributeKey('FerryDowntimeStart', 'DATETIME'),
};

export interface ApproveInput {
  gate: GateName;
  by: string;
  reason: string;
  /** When given it must equal the digest of the running plan. */
  planDigest?: string;
}
export interface RejectInput {
  gate: GateName;
  by: string;
  reason: string;
}
export interface PauseInput {
  by: string;
  reason: string;
}
export interface ResumeInput {
  by: string;
}
export interface AbortInput {
  by: string;
  reason: string;
  /** Needed once applications wrote on the new nodes: the abort then loses those writes. */
  acceptLosingWrites?: boolean;
}
export interface TuneInput {
  by: string;
  /** New pre-copy limit per source host, KiB/s; 0 = unlimited. */
  preCopyKiBps: number;
}

export const approveSignal = defineSignal<[ApproveInput]>('approve');
export const rejectSignal = defineSignal<[RejectInput]>('reject');
export const pauseSignal = defineSignal<[PauseInput]>('pause');
export const resumeSignal = defineSignal<[ResumeInput]>('resume');
export const abortSignal = defineSignal<[AbortInput]>('abort');
export const tuneSignal = defineSignal<[TuneInput]>('tune');

/** The same decisions, refused by a validator before anything is written; each answers with one sentence. */
export const approveUpdate = defineUpdate<string, [ApproveInput]>('approve');
export const rejectUpdate = defineUpdate<string, [RejectInput]>('reject');
export const pauseUpdate = defineUpdate<string, [PauseInput]>('pause');
export const resumeUpdate = defineUpdate<string, [ResumeInput]>('resume');
export const abortUpdate = defineUpdate<string, [AbortInput]>('abort');
export const tuneUpdate = defineUpdate<string, [TuneInput]>('tune');

export const phaseNames = [
  'preflight',
  'prewarm',
  'backup',
  'replicate',
  'stop-apps',
  'add-nodes',
  'edit-secrets',
  'uninstall',
  'stop-host-services',
  'final-copy',
  'start-host-services',
  'reinstall',
  'remove-nodes',
  'start-apps',
  'verify',
] as const;
export type PhaseName = (typeof phaseNames)[number];

export type PhaseState = 'pending' | 'running' | 'parked' | 'blocked' | 'done' | 'skipped' | 'undoing' | 'undone';

export interface PhaseStatus {
  name: PhaseName;
  /** Section of the runbook. */
  section: number;
  state: PhaseState;
  startedAt?: string;
  endedAt?: string;
  /** When it was done on the way forward; stays when it is undone afterwards, which moves `endedAt`. */
  doneAt?: string;
  /** One line a person can read: what is going on or what was proved. */
  detail?: string;
}

export interface DecisionRecord {
  decision: 'approve' | 'reject' | 'pause' | 'resume' | 'abort' | 'tune';
  gate?: GateName;
  by: string;
  reason: string;
  at: string;
  /** `cancel`: somebody cancelled the workflow itself, which counts as an abort by `temporal cancel`. */
  via: 'signal' | 'update' | 'cancel';
  /** False: it did not count, and why. */
  counted: boolean;
  why?: string;
  planDigest: string;
  /** Seconds of downtime projected at the moment of the decision. */
  projectedDowntimeSeconds?: number;
}

export interface GateStatus {
  name: GateName;
  state: 'pending' | 'awaiting' | 'approved' | 'rejected';
  required: number;
  /** Who may approve and has not yet; empty: anybody but `barred`. */
  approvers?: string[];
  /** The author of the plan, who may not approve it. */
  barred?: string;
  approvals: { by: string; reason: string; at: string }[];
  openedAt?: string;
  decidedAt?: string;
  /** What could not be proved when it opened: who approves it accepts that. */
  unproved?: string[];
}

export interface PassSummary {
  pass: number;
  mode: 'live' | 'final';
  startedAt: string;
  seconds: number;
  files: number;
  filesTransferred: number;
  deleted: number;
  /** Size of the tree, bytes. */
  totalBytes: number;
  literalBytes: number;
  matchedBytes: number;
  /** Bytes on the wire per second. */
  bytesPerSecond: number;
  /** True when files vanished under a live pass (rsync 24). */
  vanished: boolean;
  /** What was chosen automatically and why. */
  explanation?: string;
}

export interface TransferStatus {
  id: string;
  subject: { component?: ComponentKind; ordinal?: number; service?: string };
  source: string;
  destination: string;
  state: 'pending' | 'copying' | 'fresh' | 'final' | 'verified' | 'failed';
  /** Workflow id of the child that is or was moving it. */
  workflowId: string;
  passes: PassSummary[];
  /** Every pass moves everything, since tar copies: it takes part in keeping fresh for a small share of the time. */
  isWhole?: boolean;
  projectedFinalSeconds?: number;
  /** Half-width of its error band. */
  projectedErrorSeconds?: number;
  /** What the wire carried when it was tried, bytes per second. */
  linkBytesPerSecond?: number;
  /** Why its last delta does not get short enough, and what would help; absent while it does. */
  advice?: string | undefined;
  /** Root digest of the verified content, the same on both sides. */
  digest?: string;
}

export interface BlockedStatus {
  phase: PhaseName;
  cause: string;
  /** What was left untouched. */
  untouched: string;
  /** The command to type next. */
  next: string;
  /** heals-by-a-human: fix and resume; never: only abort. */
  heals: 'human' | 'never';
  since: string;
  /** What people may decide. Not told by older workers: resume, and abort before the point of no return. */
  choices?: ('resume' | 'abort')[];
}

export interface DowntimeStatus {
  budgetSeconds: number;
  projectedSeconds: number;
  /** Half-width of the error band of the projection, seconds. */
  projectedErrorSeconds: number;
  startedAt?: string;
  endedAt?: string;
  spentSeconds: number;
  /** When that was counted; a clock that runs goes on from there. A query sees the time of the last thing that happened. */
  asOf?: string;
}

export interface MigrationStatus {
  cluster: string;
  planDigest: string;
  state: 'running' | 'awaiting-gate' | 'paused' | 'blocked' | 'rolling-back' | 'rolled-back' | 'completed';
  phase?: PhaseName;
  awaitingGate?: GateName;
  pointOfNoReturn: boolean;
  phases: PhaseStatus[];
  gates: GateStatus[];
  decisions: DecisionRecord[];
  transfers: TransferStatus[];
  /** The latest of what is blocked. */
  blocked?: BlockedStatus;
  /** What else is blocked meanwhile, in the order in which it happened, with shortened texts; absent: nothing. Not told by older workers. */
  alsoBlocked?: BlockedStatus[];
  /** How many more are blocked than there is room for; absent: none. */
  moreBlocked?: number;
  paused?: { by: string; reason: string; since: string };
  downtime: DowntimeStatus;
}

export const statusQuery = defineQuery<MigrationStatus>('status');

/** Returned when the workflow ends. */
export interface MigrationResult {
  outcome: 'migrated' | 'rolled-back';
  status: MigrationStatus;
}
