import { Context } from '@temporalio/activity';
import type { ActivityScope } from './polling.ts';
import { activityScope } from './polling.ts';

/** Scope of a running activity that can also tell why it is to stop, and what the try before said last. */
export interface TransferScope extends ActivityScope {
  cancellation(): { cancelRequested: boolean; paused: boolean } | undefined;
  /** Its workflow was terminated: nobody will ever come back for what it left running. */
  isAbandoned(): Promise<boolean>;
  earlier: Reported;
}

/** How far the try before was. */
export interface Reported {
  bytes: number;
  /** Of them those that were done before its job began. */
  before: number;
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
  return {
    ...scope,
    earlier: reportedIn(scope),
    cancellation: () => context?.cancellationDetails,
    isAbandoned: async () => context?.cancellationDetails?.notFound === true && isOver(context),
  };
}

/** The server no longer knows the activity: either another try has taken over, or the workflow has ended without it. */
async function isOver({ client, info }: Context): Promise<boolean> {
  const { workflowId, runId } = info.workflowExecution ?? {};
  if (workflowId === undefined) return false;
  const { status } = await client.workflow.getHandle(workflowId, runId).describe();
  return status.name !== 'RUNNING';
}

function reportedIn({ lastSaid }: ActivityScope): Reported {
  const { bytes, before } = (lastSaid as { bytes?: unknown; before?: unknown } | undefined) ?? {};
  return { bytes: typeof bytes === 'number' ? bytes : 0, before: typeof before === 'number' ? before : 0 };
}

const longestSilence = 4000;

/** Repeats the last heartbeat while a step has nothing new to say: a slow machine is no lost worker. */
export async function withSteadyBeat<T>(scope: TransferScope, step: (scope: TransferScope) => Promise<T>): Promise<T> {
  let last: unknown;
  let saidAt = 0;
  const heartbeat = (details: unknown): void => {
    last = details;
    saidAt = Date.now();
    scope.heartbeat(details);
  };
  const timer = setInterval(() => {
    if (last !== undefined && Date.now() - saidAt >= longestSilence) heartbeat(last);
  }, longestSilence / 8);
  try {
    return await step({ ...scope, heartbeat });
  } finally {
    clearInterval(timer);
  }
}
