import type { Plan } from '../plan/plan.ts';
import { afterRound } from '../workflows/copy-outcome.ts';
import type { DowntimeSpan } from '../workflows/downtime.ts';
import { begin, end, expectedSeconds, isDown, spentSeconds } from '../workflows/downtime.ts';
import { initialState } from '../workflows/state.ts';
import { projectedDowntime } from './plan-view.ts';
import { callsOf } from './report-calls.ts';
import type { RunHistory } from './report-events.ts';
import type { ReportDecision, ReportGate, ReportModel } from './report-model.ts';
import type { CopyOutcome } from './report-transfers.ts';
import type { AttributeChange, Known } from './report-words.ts';

/* The downtime: what was projected when the window was opened, and what it became. Pure. */

/** What people saw when they opened the window: told by the workflow, or reckoned as it does from the copies that were measured by then. */
export function projectionOf(
  plan: Plan | undefined,
  status: Known | undefined,
  gates: readonly ReportGate[],
  decisions: readonly ReportDecision[],
  outcomes: readonly CopyOutcome[],
): Pick<ReportModel['downtime'], 'projectedSeconds' | 'projectedFrom'> {
  const gate = gates.find(({ name }) => name === 'open-downtime');
  const opened = decisions.findLast(
    ({ at, decision, gate: about, counted }) =>
      about === 'open-downtime' && decision === 'approve' && counted !== false && at <= (gate?.decidedAt ?? at),
  );
  const told = opened?.projectedDowntimeSeconds;
  if (told !== undefined) return { projectedSeconds: told, projectedFrom: 'approval' };
  if (plan === undefined) return {};
  if (opened === undefined || gate?.state !== 'approved') {
    return { projectedSeconds: projectedDowntime(plan).seconds, projectedFrom: 'plan' };
  }
  const measured = initialState(plan, [], opened.at).transfers.map((transfer) => {
    const carried = status?.transfers.find(({ id }) => id === transfer.id) ?? transfer;
    return outcomes
      .filter(({ at, workflowId }) => workflowId === transfer.workflowId && at <= opened.at)
      .reduce((known, outcome) => afterRound(plan, known, 'live', outcome), carried);
  });
  const sum = [...expectedSeconds(plan, measured, Date.parse(opened.at)).values()].reduce(
    (total, phase) => total + phase.seconds,
    0,
  );
  return { projectedSeconds: Math.round(sum), projectedFrom: 'approval' };
}

/** `until`: the end of the workflow, or now. */
export function downtimeOf(
  status: Known | undefined,
  changes: readonly AttributeChange[],
  runs: readonly RunHistory[],
  until: string,
): Pick<ReportModel['downtime'], 'budgetSeconds' | 'startedAt' | 'endedAt' | 'spentSeconds'> {
  if (status?.downtime !== undefined) {
    const { budgetSeconds, startedAt, endedAt, spentSeconds: spent } = status.downtime;
    return {
      budgetSeconds,
      ...(startedAt === undefined ? {} : { startedAt, spentSeconds: spent }),
      ...(endedAt === undefined ? {} : { endedAt }),
    };
  }
  const begun = changes.find(({ downtimeStart }) => downtimeStart !== undefined)?.downtimeStart;
  if (begun === undefined) return {};
  // As the workflow counts it: from the first stop until the recorded applications run, and again where the way back stops them.
  let spans: DowntimeSpan[] = status?.spans?.length ? status.spans : [{ startedAt: begun }];
  for (const { activity, scheduledAt, endedAt, result } of runs.slice(-1).flatMap(callsOf)) {
    if (activity === 'stopApplications') spans = begin(spans, scheduledAt);
    if (activity === 'startApplications' && result !== undefined) spans = end(spans, endedAt ?? scheduledAt);
  }
  const endedAt = isDown(spans) ? undefined : spans.at(-1)?.endedAt;
  return {
    startedAt: begun,
    ...(endedAt === undefined ? {} : { endedAt }),
    spentSeconds: Math.round(spentSeconds(spans, Date.parse(until))),
  };
}
