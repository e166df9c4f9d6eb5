import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { withEarlierTries } from './earlier-tries.ts';

/** Heartbeat and cancellation of the running activity; outside of one, they do nothing. */
export interface ActivityScope {
  heartbeat(details: unknown): void;
  signal: AbortSignal | undefined;
  /** The workflow has asked this activity to stop; false for a worker that shuts down, whose activity is taken over by another. */
  isGivenUp(): boolean;
  /** Identifies this execution of the activity; the same for all its retries, another one for each scheduling. */
  token: string;
  attempt: number;
  /** What the try before said in its last heartbeat; undefined when there was none. */
  lastSaid: unknown;
}

let outside = 0;

/** The scope of the activity that runs now. */
export function activityScope(): ActivityScope {
  let context: Context;
  try {
    context = Context.current();
  } catch {
    outside += 1;
    return {
      heartbeat: () => undefined,
      signal: undefined,
      isGivenUp: () => false,
      token: `local-${process.pid}-${outside}`,
      attempt: 1,
      lastSaid: undefined,
    };
  }
  const { workflowExecution, activityId, attempt } = context.info;
  return {
    heartbeat: (details) => context.heartbeat(withEarlierTries(context, details)),
    signal: context.cancellationSignal,
    isGivenUp: () => context.cancellationDetails?.cancelRequested === true,
    token: `${workflowExecution?.runId ?? 'standalone'}/${activityId}`,
    attempt,
    lastSaid: context.info.heartbeatDetails as unknown,
  };
}

export interface PollOptions {
  /** Milliseconds after which `onDeadline` speaks. */
  deadline: number;
  /** Milliseconds between two looks; default 1000. */
  interval?: number;
  /** Goes on looking when the workflow asks to stop, since what it waits for goes on as well; a worker that shuts down ends it all the same. */
  outlivesCancellation?: boolean;
  /** For the next try, in every heartbeat beside what is missing. */
  details?: object;
}

/** What one look found: finished with a value, or one line about what is still missing. */
export type Look<T> = { done: true; value: T } | { done: false; waiting: string };

/**
 * Looks until it is done. Every look is a heartbeat that says what is missing. When the deadline passes, the failure that
 * `onDeadline` builds from the last line is thrown. Errors of a look are thrown at once: they are classified where they occur.
 */
export async function poll<T>(
  look: () => Promise<Look<T>>,
  options: PollOptions,
  onDeadline: (waiting: string) => Error,
): Promise<T> {
  const scope = activityScope();
  const end = Date.now() + options.deadline;
  const goesOn = (): boolean => options.outlivesCancellation === true && scope.isGivenUp();
  for (;;) {
    if (!goesOn()) scope.signal?.throwIfAborted();
    const found = await look();
    if (found.done) return found.value;
    scope.heartbeat({ ...options.details, waiting: found.waiting });
    if (Date.now() >= end) throw onDeadline(found.waiting);
    const rest = Math.min(options.interval ?? 1000, Math.max(end - Date.now(), 1));
    const signal = goesOn() ? undefined : scope.signal;
    await sleep(rest, undefined, { ...(signal && { signal }) }).catch((error: unknown) => {
      if (!goesOn()) throw error;
    });
  }
}

/** Pauses; ends early with the activity's cancellation. */
export async function pause(milliseconds: number): Promise<void> {
  const { signal } = activityScope();
  await sleep(milliseconds, undefined, { ...(signal && { signal }) });
}

/** Sends a heartbeat every few seconds while one long step runs that cannot report by itself. */
export async function whileBeating<T>(details: unknown, step: () => Promise<T>): Promise<T> {
  const scope = activityScope();
  const beat = setInterval(() => scope.heartbeat(details), 5000);
  try {
    scope.heartbeat(details);
    return await step();
  } finally {
    clearInterval(beat);
  }
}
