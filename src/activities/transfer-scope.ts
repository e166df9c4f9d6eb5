import { Context } from '@temporalio/activity';
import type { ActivityScope } from './polling.ts';
import { activityScope } from './polling.ts';

/** Scope of a running activity that can also tell why it is to stop. */
export interface TransferScope extends ActivityScope {
  cancellation(): { cancelRequested: boolean; paused: boolean } | undefined;
}

/** The scope of the activity that runs now; outside of one, an abort of the signal counts as nothing. */
export function transferScope(): TransferScope {
  const scope = activityScope();
  let context: Context | undefined;
  try {
    context = Context.current();
  } catch {
    context = undefined;
  }
  return { ...scope, cancellation: () => context?.cancellationDetails };
}
