import type { EventFailure, ReportEvent, RunHistory } from '../../../src/client/report-events.ts';
import type { MigrationHistory } from '../../../src/client/report-history.ts';
import type { Plan } from '../../../src/plan/plan.ts';
import type { MigrationResult, MigrationStatus, PassSummary } from '../../../src/workflows/messages.ts';
import { samplePlan } from '../plan/samples.ts';

/* A decoded history, built event by event. */

export const cluster = 'sample';
export const digest = `sha256:${'d'.repeat(64)}`;
const start = Date.parse('2026-11-24T01:00:00Z');
/** Moment so many minutes after the beginning. */
export function at(minutes: number): string {
  return new Date(start + minutes * 60_000).toISOString();
}

export function sample(): Plan {
  return samplePlan((plan) => {
    plan.components = plan.components.filter(({ kind }) => kind === 'redis');
    plan.transfers = plan.transfers.filter(({ id }) => id.startsWith('redis-'));
  });
}

export function started(plan: Plan, minutes: number, more: object = {}, carried?: unknown): ReportEvent {
  const input = carried === undefined ? [plan] : [plan, carried];
  return {
    at: at(minutes),
    kind: 'started',
    workflowType: 'migrateNodes',
    input,
    identity: 'ferry:li@bastion',
    ...more,
  };
}

export function attributes(minutes: number, phase: string, gate?: string, downtime?: number): ReportEvent {
  return {
    at: at(minutes),
    kind: 'attributes',
    attributes: {
      FerryCluster: cluster,
      FerryPhase: phase,
      FerryAwaitingGate: gate ?? null,
      ...(downtime === undefined ? {} : { FerryDowntimeStart: at(downtime) }),
    },
  };
}

export function decision(
  minutes: number,
  name: string,
  input: object,
  via: 'signal' | 'update' = 'signal',
  identity = 'temporal-cli:li@laptop',
): ReportEvent {
  return { at: at(minutes), kind: 'decision', via, name, input, identity };
}

interface CallOptions {
  attempts?: number;
  lastFailure?: EventFailure;
  failure?: EventFailure;
  input?: unknown;
}

let id = 0;

/** A bar of the timeline, e.g. of a phase; without an end it is still there. */
export function bar(minutes: number, label: string, end?: number): ReportEvent[] {
  id += 1;
  return [
    { at: at(minutes), kind: 'timer-started', id, label },
    ...(end === undefined ? [] : [{ at: at(end), kind: 'timer-canceled' as const, started: id }]),
  ];
}

export function call(minutes: number, activity: string, result: unknown, options: CallOptions = {}): ReportEvent[] {
  id += 1;
  const { attempts = 1, lastFailure, failure, input = {} } = options;
  const end: ReportEvent =
    failure === undefined
      ? { at: at(minutes + 1), kind: 'activity-completed', scheduled: id, result }
      : { at: at(minutes + 1), kind: 'activity-failed', scheduled: id, failure };
  return [
    { at: at(minutes), kind: 'activity-scheduled', id, activity, input: [input], summary: `do ${activity}` },
    {
      at: at(minutes),
      kind: 'activity-started',
      scheduled: id,
      attempt: attempts,
      identity: 'ferry/0.1.0 42@bastion',
      ...(lastFailure === undefined ? {} : { lastFailure }),
    },
    end,
  ];
}

export function pass(minutes: number, number: number, mode: 'live' | 'final', literalBytes: number): PassSummary {
  return {
    pass: number,
    mode,
    startedAt: at(minutes),
    seconds: 30,
    files: 10,
    filesTransferred: 2,
    deleted: 0,
    totalBytes: 1_000_000,
    literalBytes,
    matchedBytes: 0,
    bytesPerSecond: 1000,
    vanished: false,
  };
}

export function copyRun(workflowId: string, events: ReportEvent[]): RunHistory {
  return { workflowId, runId: `run-of-${workflowId}`, events };
}

export function history(events: ReportEvent[], copies: RunHistory[] = []): MigrationHistory {
  return {
    workflowId: `migrate-${cluster}`,
    runs: [{ workflowId: `migrate-${cluster}`, runId: 'run-1', events }],
    copies,
    gaps: [],
  };
}

export function resultOf(plan: Plan, change: Partial<MigrationStatus> = {}): MigrationResult {
  const status: MigrationStatus = {
    cluster,
    planDigest: plan.digest,
    state: 'completed',
    pointOfNoReturn: true,
    phases: [
      { name: 'preflight', section: 4, state: 'done', startedAt: at(0), endedAt: at(1), detail: '30 checks' },
      { name: 'replicate', section: 7, state: 'done', startedAt: at(1), endedAt: at(60), detail: 'converged' },
      { name: 'stop-apps', section: 8, state: 'done', startedAt: at(90), endedAt: at(92) },
      { name: 'prewarm', section: 5, state: 'skipped', detail: 'not wanted' },
    ],
    gates: [
      {
        name: 'open-downtime',
        state: 'approved',
        required: 1,
        approvals: [{ by: 'li', reason: 'window', at: at(90) }],
        openedAt: at(60),
        decidedAt: at(90),
        unproved: ['nsq-0 does not answer the probe queued'],
      },
    ],
    decisions: [
      {
        decision: 'approve',
        gate: 'open-downtime',
        by: 'ops',
        reason: 'me',
        at: at(70),
        via: 'signal',
        counted: false,
        why: 'ops wrote the plan',
        planDigest: plan.digest,
      },
      {
        decision: 'approve',
        gate: 'open-downtime',
        by: 'li',
        reason: 'window',
        at: at(90),
        via: 'signal',
        counted: true,
        planDigest: plan.digest,
        projectedDowntimeSeconds: 900,
      },
    ],
    transfers: plan.transfers.map(({ id: name, source, destination }) => ({
      id: name,
      subject: { component: 'redis' as const, ordinal: 0 },
      source: `${source.host}:${source.path}`,
      destination: `${destination.host}:${destination.path}`,
      state: 'verified' as const,
      workflowId: `migrate-${cluster}/${name}`,
      passes: [pass(100, 1, 'final', 500)],
      digest,
    })),
    downtime: {
      budgetSeconds: 3600,
      projectedSeconds: 1000,
      projectedErrorSeconds: 10,
      startedAt: at(90),
      endedAt: at(106),
      spentSeconds: 960,
    },
    ...change,
  };
  return { outcome: 'migrated', status };
}

/** A migration that came to its end, with a retry, a refused approval and probes. */
export function finished(change: Partial<MigrationResult> = {}): MigrationHistory {
  const plan = sample();
  const first = plan.transfers[0]?.id ?? '';
  const workflowId = `migrate-${cluster}/${first}`;
  const probe = { component: 'redis', ordinal: 0, name: 'keys' };
  const row = (node: string): object => ({
    component: 'redis',
    ordinal: 0,
    pvc: 'c',
    pv: 'v',
    pod: 'p',
    node,
    path: '/sysvol/redis',
    ready: true,
  });
  const live = { id: first, mode: 'live', passes: [pass(2, 1, 'live', 1_000_000), pass(20, 2, 'live', 4000)] };
  const final = { id: first, mode: 'final', passes: [pass(100, 1, 'final', 500)], digest, proof: 'full: 10 entries' };
  return history(
    [
      started(plan, 0),
      { at: at(0), kind: 'task-started', identity: 'ferry/0.1.0 42@bastion' },
      attributes(0, 'preflight'),
      ...call(1, 'backupSecrets', { changed: true, proof: '2 files', files: [{ name: 'secret-a.json', digest }] }),
      { at: at(2), kind: 'child-started', workflowId, runId: 'c1' },
      { at: at(30), kind: 'child-completed', workflowId, result: live },
      attributes(60, 'replicate', 'open-downtime'),
      decision(70, 'approve', { gate: 'open-downtime', by: 'ops', reason: 'me' }, 'signal', 'temporal-cli:ops@laptop'),
      decision(90, 'approve', { gate: 'open-downtime', by: 'li', reason: 'window' }),
      ...call(
        61,
        'notify',
        { delivered: ['pager'], failed: [{ target: 'team', why: 'HTTP 503, 8 tries' }] },
        { input: { event: 'gate', gate: 'open-downtime', targets: ['pager', 'team'] } },
      ),
      ...call(
        92,
        'takeProbes',
        [
          { ...probe, value: '10' },
          { ...probe, name: 'gone', value: '1' },
          { ...probe, name: 'mute', value: '', untaken: 'HTTP 404' },
        ],
        { input: { side: 'from' } },
      ),
      { at: at(101), kind: 'child-completed', workflowId, result: final },
      ...call(102, 'provePlacement', { proof: 'ok', rows: [row('node-4')] }),
      ...call(
        103,
        'applyConfig',
        { changed: true, proof: 'ok', seconds: 60, attempt: 3 },
        {
          attempts: 3,
          lastFailure: { type: 'Transient', message: 'kubesuite said <no> | twice' },
        },
      ),
      // Taken anew after one that did not agree.
      ...call(104, 'takeProbes', [{ ...probe, value: '9' }], { input: { side: 'to' } }),
      ...call(105, 'takeProbes', [{ ...probe, value: '10' }], { input: { side: 'to' } }),
      ...call(105, 'startApplications', { changed: true, proof: 'ok' }),
      ...call(106, 'takeProbes', [{ ...probe, value: '57' }], { input: { side: 'to' } }),
      { at: at(107), kind: 'ended', how: 'completed', result: { ...resultOf(plan), ...change } },
    ],
    [
      copyRun(workflowId, [
        ...call(2, 'runPass', { ...pass(2, 1, 'live', 1_000_000) }, { input: { pass: 1, mode: 'live' }, attempts: 2 }),
      ]),
    ],
  );
}
