import { CancellationScope, ParentClosePolicy, startChild, workflowInfo } from '@temporalio/workflow';
import type { Plan, Transfer } from '../plan/plan.ts';
import type { ReplicateRequest } from '../plan/replicate.ts';
import type { CopyOutcome } from './copy-outcome.ts';
import { afterRound } from './copy-outcome.ts';
import type { DecisionKind } from './gates.ts';
import type { PhaseName, TransferStatus } from './messages.ts';
import { pauseSignal, resumeSignal, tuneSignal } from './messages.ts';
import type { Migration } from './migration.ts';
import { hostNamed, inBackground, publish } from './migration.ts';
import { standsStill, step } from './parking.ts';
import { clip } from './policies.ts';
import { pairOf, scheduleOf, shareOf } from './shares.ts';
import type { Slots } from './slots.ts';
import { allOrFirstFailure, createSlots } from './slots.ts';

export interface CopyMode {
  mode: 'live' | 'final';
  /** Passes of a live round at most. */
  maxPasses: number;
}

/** Copies transfers once more, each in a child workflow of its own, so many at a time per pair of machines. */
export async function copyRound(
  migration: Migration,
  phase: PhaseName,
  mode: CopyMode,
  transfers: readonly Transfer[] = migration.plan.transfers,
): Promise<CopyOutcome[]> {
  const slots = slotsPerPair(migration);
  return allOrFirstFailure(
    transfers.map((transfer) => slots(transfer).run(() => copyDirectory(migration, phase, transfer, mode))),
  );
}

/** Slots of the pair of machines of a transfer; one set for everything that runs at the same time. */
export function slotsPerPair(migration: Migration): (transfer: Transfer) => Slots {
  const perPair = new Map<string, Slots>();
  return (transfer) => {
    const pair = pairOf(migration.plan, transfer.id);
    const slots = perPair.get(pair) ?? createSlots(migration.plan.limits.transfersPerHost);
    perPair.set(pair, slots);
    return slots;
  };
}

/** Moves one directory in a child workflow and notes the result; failures park the phase while other copies go on. */
export async function copyDirectory(
  migration: Migration,
  phase: PhaseName,
  transfer: Transfer,
  mode: CopyMode,
): Promise<CopyOutcome> {
  return step(migration, phase, async () => {
    const before = statusOf(migration, transfer.id).state;
    note(migration, transfer.id, { state: mode.mode === 'final' ? 'final' : 'copying' });
    try {
      const outcome = await runChild(migration, transfer, mode);
      note(migration, transfer.id, afterRound(migration.plan, statusOf(migration, transfer.id), mode.mode, outcome));
      return outcome;
    } catch (error) {
      note(migration, transfer.id, { state: CancellationScope.current().consideredCancelled ? before : 'failed' });
      throw error;
    }
  });
}

async function runChild(migration: Migration, transfer: Transfer, mode: CopyMode): Promise<CopyOutcome> {
  const { plan, state, copies } = migration;
  const request = requestOf(plan, state.preCopyKiBps, transfer, mode);
  const route = `${transfer.source.host} → ${transfer.destination.host}`;
  const copy = await startChild<(request: ReplicateRequest) => Promise<CopyOutcome>>('replicateDirectory', {
    workflowId: `migrate-${plan.cluster}/${transfer.id}`,
    taskQueue: workflowInfo().taskQueue,
    staticSummary: clip(`${mode.mode === 'final' ? 'last delta of' : 'copy'} ${transfer.id} ${route}`, 200),
    // A migration that is terminated leaves no copy running behind it.
    parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
    cancellationType: 'WAIT_CANCELLATION_COMPLETED',
    args: [request],
  });
  copies.set(transfer.id, copy);
  try {
    catchUp(migration, transfer.id, request);
    return await copy.result();
  } finally {
    copies.delete(transfer.id);
  }
}

/** Whether people paused or gave another limit while this copy was being started: what they said then, it did not hear. */
function catchUp(migration: Migration, id: string, { mode, limitKiBps }: ReplicateRequest): void {
  const { plan, state } = migration;
  if (standsStill(migration)) passOn(migration, 'pause', id);
  if (mode === 'live' && limitKiBps !== shareOf(plan, state.preCopyKiBps, id)) passOn(migration, 'tune', id);
}

/** A copy that runs hears of pauses and limits. */
export function passOn(migration: Migration, kind: DecisionKind, id: string): void {
  const copy = migration.copies.get(id);
  const by = 'migration';
  if (kind === 'pause') {
    inBackground(migration, async () => copy?.signal(pauseSignal, { by, reason: 'the migration is paused' }));
  }
  if (kind === 'resume') {
    inBackground(migration, async () => copy?.signal(resumeSignal, { by }));
  }
  if (kind === 'tune') {
    const preCopyKiBps = shareOf(migration.plan, migration.state.preCopyKiBps, id);
    inBackground(migration, async () => copy?.signal(tuneSignal, { by, preCopyKiBps }));
  }
}

/** What a child is asked for. Nothing limits the last delta, at whatever hour. */
export function requestOf(plan: Plan, preCopyKiBps: number, transfer: Transfer, mode: CopyMode): ReplicateRequest {
  const schedule = mode.mode === 'final' ? [] : scheduleOf(plan, transfer.id);
  return {
    migration: plan.cluster,
    transfer,
    source: hostNamed(plan, transfer.source.host),
    destination: hostNamed(plan, transfer.destination.host),
    mode: mode.mode,
    verify: plan.verify,
    limitKiBps: mode.mode === 'final' ? 0 : shareOf(plan, preCopyKiBps, transfer.id),
    ...(schedule.length === 0 ? {} : { schedule }),
    maxPasses: mode.maxPasses,
    // What a first try wrote on the new machines was given up when people went back from it.
    discardChanges: true,
    ...(plan.bringRsync === undefined ? {} : { bringRsync: plan.bringRsync }),
  };
}

function statusOf(migration: Migration, id: string): TransferStatus {
  const status = migration.state.transfers.find((candidate) => candidate.id === id);
  if (status === undefined) {
    throw new TypeError(`transfer ${id} is not in the plan`);
  }
  return status;
}

function note(migration: Migration, id: string, change: Partial<TransferStatus>): void {
  migration.state.transfers = migration.state.transfers.map((status) =>
    status.id === id ? { ...status, ...change } : status,
  );
  publish(migration);
}
