import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { Projection } from './convergence.ts';
import type { PassSummary } from './messages.ts';

/** Result of `replicateDirectory`. */
export interface TransferOutcome {
  id: string;
  mode: 'live' | 'final';
  passes: PassSummary[];
  /** Live: the final delta is projected to fit. Final: true, a final that is not proved fails instead. */
  ready: boolean;
  /** True when more passes would not bring the final delta down; `advice` says what would. */
  notConverging: boolean;
  advice: string;
  projectedFinalSeconds: number;
  projectedErrorSeconds: number;
  /** What the wire carried when it was tried; absent where it was not. */
  linkBytesPerSecond?: number;
  /** Every pass moves everything: another one makes the last no shorter. */
  isWhole?: true;
  /** Root digest of the verified tree, the same on both sides; final mode only. */
  digest?: string;
  /** What was compared: `full: 1,234 entries, 5.6 GB …`. */
  proof?: string;
  destinationState: 'incomplete' | 'verified';
}

/** Answer of the query `copy` of `replicateDirectory`. */
export interface CopyStatus {
  state: 'preparing' | 'copying' | 'paused' | 'holding' | 'verifying' | 'done';
  limitKiBps: number;
  passes: PassSummary[];
  projection?: Projection;
}

export const copyQuery = defineQuery<CopyStatus>('copy');

/** Ends a holding copy after the pass at work. */
export const finishHoldSignal = defineSignal('finish-hold');
