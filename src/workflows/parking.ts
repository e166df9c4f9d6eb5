import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowFailure,
  condition,
  TemporalFailure,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { FailureDetail } from '../activities/contract.ts';
import { withBar } from './bar.ts';
import { choicesOf } from './gates.ts';
import type { BlockedStatus, PhaseName } from './messages.ts';
import { adopt, callActivity, notify, now, publish } from './migration.ts';
import type { Input, Migration, Output } from './migration.ts';
import type { ActivityName } from './policies.ts';
import type { Outcome, Parked } from './state.ts';
import { withParked } from './state.ts';
import { decisionCommand } from './status.ts';

/** Puts something before people; answers its id. */
export function openParking(migration: Migration, parked: Omit<Parked, 'id' | 'since'>): number {
  adopt(migration, withParked(migration.state, { ...parked, since: now() }));
  publish(migration);
  return migration.state.parkedSoFar;
}

/** What people decided, or undefined while they have not. */
export function outcomeOf(migration: Migration, id: number): Outcome | undefined {
  return migration.state.parked.find((parked) => parked.id === id)?.outcome;
}

/** Takes it from the table again. */
export function closeParking(migration: Migration, id: number): void {
  migration.state.parked = migration.state.parked.filter((parked) => parked.id !== id);
  publish(migration);
}

/** Waits, for days if need be, until people decide; an abort ends the waiting by cancellation. */
export async function park(migration: Migration, parked: Omit<Parked, 'id' | 'since'>): Promise<Outcome> {
  const id = openParking(migration, parked);
  try {
    await withBar(labelOf(parked), () => condition(() => outcomeOf(migration, id) !== undefined));
    return outcomeOf(migration, id) ?? 'resumed';
  } finally {
    closeParking(migration, id);
  }
}

function labelOf(parked: Omit<Parked, 'id' | 'since'>): string {
  return parked.kind === 'sent-back'
    ? `gate ${parked.gate ?? ''} was sent back by ${parked.by ?? 'somebody'}: ${parked.reason ?? ''}`
    : `${parked.phase} is blocked: ${parked.blocked?.cause ?? ''}`;
}

function labelOfPause({ state }: Migration): string {
  const paused = state.parked.find((parked) => parked.kind === 'paused' || parked.kind === 'no-way-back');
  return `stands still for ${paused?.by ?? 'somebody'}: ${paused?.reason ?? ''}`;
}

/** True while somebody asked the migration to stand still. */
export function standsStill(migration: Migration): boolean {
  return migration.state.parked.some((parked) => parked.kind === 'paused' || parked.kind === 'no-way-back');
}

/** Between two steps: waits while the migration is paused, and lets no forward work pass once an abort was accepted. */
export async function pausePoint(migration: Migration): Promise<void> {
  endIfCancelled();
  if (standsStill(migration)) {
    await withBar(labelOfPause(migration), () => condition(() => !standsStill(migration)));
    endIfCancelled();
    publish(migration);
  }
}

/** What was at work when the abort came may have ended well all the same: only the next thing to be awaited would throw. */
function endIfCancelled(): void {
  if (CancellationScope.current().consideredCancelled) {
    throw new CancelledFailure('an abort was accepted: no further step is begun');
  }
}

/**
 * One step of a phase. A failure that retries did not heal parks the phase: `resume` tries the step again, `abort` ends it by
 * cancellation. Only mistakes in the workflow's own code go through, and wait there for a corrected worker.
 */
export async function step<T>(migration: Migration, phase: PhaseName, act: () => Promise<T>): Promise<T> {
  for (;;) {
    await pausePoint(migration);
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof TemporalFailure) || CancellationScope.current().consideredCancelled) {
        throw error;
      }
      const blocked = explainFailure(error);
      const { workflowId } = workflowInfo();
      notify(migration, 'blocked', `${phase} is blocked: ${blocked.cause} Next: ${blocked.next}`, {
        command: decisionCommand(workflowId, 'resume', { by: 'YOUR-NAME' }),
      });
      await park(migration, { kind: 'blocked', phase, choices: choicesOf(migration.state), blocked });
    }
  }
}

/** One activity as one step. */
export function act<Name extends ActivityName>(
  migration: Migration,
  phase: PhaseName,
  name: Name,
  summary: string,
  ...input: Input<Name>
): Promise<Output<Name>> {
  return step(migration, phase, () => callActivity(migration, name, summary, ...input));
}

/** A failure found by a phase itself: parks it. */
export function needsHuman(detail: FailureDetail): ApplicationFailure {
  return ApplicationFailure.nonRetryable(detail.cause, 'NeedsHuman', detail);
}

/** What a failure means to people; unknown failures say so. */
export function explainFailure(error: Error): Omit<BlockedStatus, 'phase' | 'since'> {
  const what = describeWhere(error);
  const errors = chainOf(error);
  // Below it lies what the machine or the API said: a cause without words for people.
  const explained = errors.find((candidate) => detailOf(candidate) !== undefined);
  const root = explained ?? errors.at(-1) ?? error;
  const detail = detailOf(root);
  const heals = root instanceof ApplicationFailure && root.type === 'Permanent' ? 'never' : 'human';
  return {
    cause: detail?.cause ?? `${what}${root instanceof TimeoutFailure ? timeoutCause(root) : root.message}`,
    untouched: detail?.untouched ?? 'the step that failed observes before it acts again; no later step was begun',
    next: detail?.next ?? 'look at the failed activity in the history and at the worker log, then resume or abort',
    heals,
  };
}

function describeWhere(error: Error): string {
  if (error instanceof ActivityFailure) {
    return `${error.activityType}: `;
  }
  return error instanceof ChildWorkflowFailure ? `${error.execution.workflowId ?? error.workflowType}: ` : '';
}

function timeoutCause(failure: TimeoutFailure): string {
  return `no answer in time (${failure.timeoutType}): the worker or what it talks to is gone or stuck`;
}

function chainOf(error: Error): Error[] {
  return [error, ...(error.cause instanceof Error ? chainOf(error.cause) : [])];
}

function detailOf(error: Error): FailureDetail | undefined {
  return error instanceof ApplicationFailure ? readDetail(error.details?.[0]) : undefined;
}

function readDetail(value: unknown): FailureDetail | undefined {
  if (typeof value !== 'object' || value === null) {
    return undefined;
  }
  const { cause, untouched, next } = value as Record<string, unknown>;
  return typeof cause === 'string' && typeof untouched === 'string' && typeof next === 'string'
    ? { cause, untouched, next }
    : undefined;
}
