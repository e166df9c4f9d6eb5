import type { Plan } from '../plan/plan.ts';
import { parsePlanData } from '../plan/validate.ts';
import { version } from '../version.ts';
import { byTime, callsOf, failuresOf, retriesOf } from './report-calls.ts';
import { downtimeOf, projectionOf } from './report-downtime.ts';
import type { ReportEvent } from './report-events.ts';
import { decisionsOf, gatesOf } from './report-gates.ts';
import type { MigrationHistory } from './report-history.ts';
import type { ReportModel } from './report-model.ts';
import { phasesOf } from './report-phases.ts';
import { backupOf, notificationsOf, placementOf, probesOf } from './report-proofs.ts';
import { outcomesOf, transfersOf } from './report-transfers.ts';
import { attributeChanges, carriedStatus, endOf, outcomeOf, statusOf, whyOf } from './report-words.ts';

/* A report is made from decoded histories and nothing else. Pure. */

/** Makes the report of a history. `madeAt` is the time of the report itself. */
export function reportOf(history: MigrationHistory, madeAt: string): ReportModel {
  const { runs } = history;
  const events = runs.flatMap((run) => run.events);
  const started = events.find((event) => event.kind === 'started');
  const plan = planOf(started?.input[0]);
  const calls = runs.flatMap(callsOf);
  const copyCalls = history.copies.flatMap(callsOf);
  const ended = endOf(events);
  const lastWord = statusOf(ended);
  const status = lastWord ?? carriedStatus(runs);
  const outcome = outcomeOf(ended);
  const attributes = attributeChanges(events);
  const decisions = decisionsOf(status?.decisions ?? [], events, lastWord !== undefined);
  const outcomes = outcomesOf(events);
  const gates = gatesOf(status, plan, attributes, decisions, lastWord !== undefined);
  const downtime = {
    ...(plan === undefined ? {} : { budgetSeconds: plan.downtime.budgetSeconds }),
    ...projectionOf(plan, status, gates, decisions, outcomes),
    ...downtimeOf(status, attributes, runs, ended?.at ?? madeAt),
  };
  const why = whyOf(ended);
  return {
    madeAt,
    madeBy: `ferry ${version}`,
    workflowId: history.workflowId,
    runs: runs.map((run) => ({ runId: run.runId, startedAt: run.events[0]?.at ?? '', events: run.events.length })),
    ...(history.earlier === undefined ? {} : { earlier: history.earlier }),
    cluster: plan?.cluster ?? history.workflowId.replace(/^migrate-/, ''),
    planDigest: plan?.digest ?? 'not readable',
    author: plan?.author ?? 'not readable',
    mapping: plan?.mapping ?? [],
    outcome,
    ...(why === undefined ? {} : { why }),
    startedAt: started?.at ?? runs[0]?.events[0]?.at ?? madeAt,
    ...(ended === undefined ? {} : { endedAt: ended.at }),
    phases: phasesOf(status, plan, runs, ended),
    gates,
    downtime,
    transfers: transfersOf(status, plan, outcomes, copyCalls),
    placement: placementOf(plan, calls),
    probes: probesOf(calls),
    decisions,
    retries: [...calls, ...copyCalls].flatMap(retriesOf).toSorted(byTime),
    failures: failuresOf(history, calls, copyCalls),
    notifications: notificationsOf([...calls, ...copyCalls]).toSorted(byTime),
    backup: backupOf(calls),
    versions: versionsOf(plan, [...events, ...history.copies.flatMap((copy) => copy.events)]),
    gaps: [
      ...history.gaps,
      ...(plan === undefined ? ['the plan in this history cannot be read by this version of ferry'] : []),
      ...(ended === undefined
        ? [
            'the migration is still running: its phases are read from the timeline, what they proved from the answers of their steps, and figures may still change',
          ]
        : []),
    ],
  };
}

function planOf(input: unknown): Plan | undefined {
  const result = parsePlanData(input);
  return result.ok ? result.plan : undefined;
}

function versionsOf(plan: Plan | undefined, events: readonly ReportEvent[]): ReportModel['versions'] {
  const workers = new Set(
    events.flatMap((event) =>
      (event.kind === 'task-started' || event.kind === 'activity-started') && event.identity !== ''
        ? [event.identity]
        : [],
    ),
  );
  return [
    { name: 'report', version: `ferry ${version}` },
    ...[...workers].toSorted().map((identity) => ({ name: 'worker', version: identity })),
    ...Object.entries(plan?.platform.versions ?? {}).map(([name, seen]) => ({ name, version: seen })),
  ];
}
