import { allHandlersFinished, makeContinueAsNewFunc, workflowInfo } from '@temporalio/workflow';
import type { Plan } from '../plan/plan.ts';
import type { MigrationResult } from './messages.ts';
import type { Migration } from './migration.ts';
import { historyEvents } from './policies.ts';
import type { MigrationState } from './state.ts';

const startAnew = makeContinueAsNewFunc<(plan: Plan, carried: MigrationState) => Promise<MigrationResult>>();

/**
 * A moment when nothing runs: starts a fresh history with all that is known when the present one has grown long, so that a migration
 * can wait for weeks. Everything after it finds its way from the state alone.
 */
export async function checkpoint(migration: Migration): Promise<void> {
  const { state, copies, background } = migration;
  const info = workflowInfo();
  const isLong = info.continueAsNewSuggested || info.historyLength > historyEvents;
  const isQuiet = copies.size === 0 && background === 0 && allHandlersFinished();
  if (!isLong || !isQuiet || state.abort !== undefined) {
    return;
  }
  await startAnew(migration.plan, carry(state));
}

/** The state as the next history begins with it: whoever waited at a gate opens it anew, pauses go on. */
export function carry(state: MigrationState): MigrationState {
  return {
    ...state,
    parked: state.parked.filter((parked) => parked.kind === 'paused' || parked.kind === 'no-way-back'),
  };
}
