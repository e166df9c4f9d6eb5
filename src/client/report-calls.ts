import type { Try } from '../activities/contract.ts';
import { addTry, briefly } from '../activities/earlier-tries.ts';
import type { EventFailure, RunHistory } from './report-events.ts';
import type { MigrationHistory } from './report-history.ts';
import type { ReportFailure, ReportRetry } from './report-model.ts';

/* Activities as a history tells them: what was asked, what came of it, and what went wrong on the way. Pure. */

export interface Call {
  /** Number of the event that scheduled it. */
  id: number;
  workflowId: string;
  activity: string;
  input: unknown;
  summary: string;
  scheduledAt: string;
  endedAt?: string;
  attempts: number;
  lastFailure?: EventFailure;
  failure?: EventFailure;
  result?: unknown;
}

export function callsOf({ workflowId, events }: RunHistory): Call[] {
  const calls = new Map<number, Call>();
  for (const event of events) {
    if (event.kind === 'activity-scheduled') {
      calls.set(event.id, {
        id: event.id,
        workflowId,
        activity: event.activity,
        input: event.input[0],
        summary: event.summary ?? event.activity,
        scheduledAt: event.at,
        attempts: 0,
      });
    } else if (event.kind === 'activity-started') {
      const call = calls.get(event.scheduled);
      if (call === undefined) continue;
      call.attempts = event.attempt;
      if (event.lastFailure !== undefined) call.lastFailure = event.lastFailure;
    } else if (event.kind === 'activity-completed' || event.kind === 'activity-failed') {
      const call = calls.get(event.scheduled);
      if (call === undefined) continue;
      call.endedAt = event.at;
      if (event.kind === 'activity-completed') call.result = event.result;
      else call.failure = event.failure;
    }
  }
  return [...calls.values()];
}

export function byTime(a: { at: string }, b: { at: string }): number {
  return Date.parse(a.at) - Date.parse(b.at);
}

const noWord = 'left no word: its worker was lost, or it took longer than it may';

export function retriesOf(call: Call): ReportRetry[] {
  if (call.attempts < 2) return [];
  const tries = triesOf(call);
  return [
    {
      at: call.scheduledAt,
      workflowId: call.workflowId,
      activity: call.activity,
      summary: call.summary,
      attempts: call.attempts,
      cause: call.lastFailure?.message ?? tries.at(-1)?.cause ?? noWord,
      tries,
    },
  ];
}

/** Every try before the last one: what was handed on, what the server kept of the last failed one, and gaps as what they are. */
function triesOf({ attempts, failure, lastFailure }: Call): Try[] {
  // A failure that ended it says what all tries before it said.
  const handedOn = failure?.earlier ?? lastFailure?.earlier ?? [];
  const isWhole = handedOn.some(({ to }) => to === attempts - 1);
  const last = lastFailure === undefined ? noWord : briefly(lastFailure.message);
  const known = isWhole ? handedOn : addTry(handedOn, attempts - 1, last);
  const tries: Try[] = [];
  for (const entry of known) {
    const next = (tries.at(-1)?.to ?? 0) + 1;
    if (entry.from > next) tries.push({ from: next, to: entry.from - 1, cause: noWord });
    tries.push(entry);
  }
  return tries;
}

export function failuresOf(
  history: MigrationHistory,
  calls: readonly Call[],
  copyCalls: readonly Call[],
): ReportFailure[] {
  const failed = [...calls, ...copyCalls].flatMap(({ workflowId, summary, endedAt, scheduledAt, failure }) =>
    failure === undefined
      ? []
      : [{ at: endedAt ?? scheduledAt, workflowId, what: summary, type: failure.type, cause: failure.message }],
  );
  const others = [...history.runs, ...history.copies].flatMap(({ workflowId, events }) =>
    events.flatMap((event): ReportFailure[] => {
      if (event.kind === 'child-failed') {
        const { type, message } = event.failure;
        return [{ at: event.at, workflowId: event.workflowId, what: 'copy', type, cause: message }];
      }
      if (event.kind === 'task-failed') {
        const { type, message } = event.failure;
        return [{ at: event.at, workflowId, what: 'step of the workflow', type, cause: message }];
      }
      return event.kind === 'ended' && event.how !== 'completed'
        ? [{ at: event.at, workflowId, what: `the workflow was ${event.how}`, type: event.how, cause: event.why }]
        : [];
    }),
  );
  // A failed activity of a copy is the failure of the copy as well: said once. The same step that fails again is another failure.
  const keyOf = ({ workflowId, cause }: ReportFailure): string => `${workflowId}\n${cause}`;
  const said = new Set(failed.map(keyOf));
  return [...failed, ...others.filter((other) => !said.has(keyOf(other)))].toSorted(byTime);
}
