import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import type { Try } from './contract.ts';
import { errorText } from './failures.ts';

/*
 * A server keeps of an activity only what its last failed try said. So each try hands the causes of the ones before to the next, in the
 * details of its heartbeats, and says them along with its own failure: then the last failure of a history holds them all.
 */

/** The server cuts failures that it keeps between two tries at 4 KiB; message, stack and the first detail need their share. */
const triesKept = 6;
const causeLength = 200;

interface Memory {
  /** What failed before this try. */
  earlier: readonly Try[];
  /** Details of the last heartbeat, by this try or the one before. */
  details: object;
}

const memories = new WeakMap<Context, Memory>();

/** Details of a heartbeat, and with them the causes of earlier tries. */
export function withEarlierTries(context: Context, details: unknown): unknown {
  const memory = memories.get(context);
  if (memory === undefined || !isRecord(details)) return details;
  memory.details = details;
  return memory.earlier.length === 0 ? details : { ...details, earlierTries: memory.earlier };
}

/** For every activity of the worker. */
export const rememberTries: ActivityInterceptorsFactory = () => ({
  inbound: {
    async execute(input, next) {
      const context = Context.current();
      const { attempt, heartbeatDetails } = context.info as { attempt: number; heartbeatDetails: unknown };
      const memory = recall(heartbeatDetails);
      memories.set(context, memory);
      try {
        return await next(input);
      } catch (error) {
        context.heartbeat({ ...memory.details, earlierTries: addTry(memory.earlier, attempt, causeOf(error)) });
        throw memory.earlier.length === 0 || error instanceof CancelledFailure ? error : saying(error, memory.earlier);
      }
    },
  },
});

function recall(heartbeatDetails: unknown): Memory {
  if (!isRecord(heartbeatDetails)) return { earlier: [], details: {} };
  const { earlierTries, ...details } = heartbeatDetails;
  return { earlier: Array.isArray(earlierTries) ? (earlierTries as Try[]) : [], details };
}

/** Tries in a row that failed alike are one entry; where there are too many entries, the first and the last ones tell most. */
export function addTry(before: readonly Try[], attempt: number, cause: string): Try[] {
  const last = before.at(-1);
  if (last?.cause === cause && last.to === attempt - 1) return [...before.slice(0, -1), { ...last, to: attempt }];
  const tries = [...before, { from: attempt, to: attempt, cause }];
  return tries.length > triesKept ? [...tries.slice(0, 1), ...tries.slice(1 - triesKept)] : tries;
}

function causeOf(error: unknown): string {
  const isStopped = error instanceof CancelledFailure || (error instanceof Error && error.name === 'AbortError');
  return isStopped ? 'its worker was shut down, or it was asked to stop' : briefly(errorText(error));
}

/** What happened and why, without the advice that another try makes needless. */
export function briefly(message: string): string {
  const [text = ''] = message.split('. Untouched: ');
  return text.length > causeLength ? `${text.slice(0, causeLength - 1)}…` : text;
}

/** The failure with one more detail. */
function saying(error: unknown, earlierTries: readonly Try[]): ApplicationFailure {
  const details = error instanceof ApplicationFailure ? (error.details ?? []) : [];
  const failure = ApplicationFailure.fromError(error, { details: [details[0] ?? null, { earlierTries }] });
  // The worker's log has it, and there is room for one of both.
  failure.stack = '';
  return failure;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
