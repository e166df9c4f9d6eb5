import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { formatOf, renderReport } from '../../../src/client/report.ts';
import { reportHtml } from '../../../src/client/report-html.ts';
import type { ReportModel } from '../../../src/client/report-model.ts';
import { gateWait, phaseSeconds, retriesNote } from '../../../src/client/report-model.ts';
import { reportOf } from '../../../src/client/report-of.ts';
import { inline, reportMarkdown, verdictOnDowntime } from '../../../src/client/report-text.ts';
import { timeScale, timelineRows } from '../../../src/client/report-timeline.ts';
import { projectedDowntime } from '../../../src/client/plan-view.ts';
import { sections } from '../../../src/client/report-evidence.ts';
import type { ReportEvent } from '../../../src/client/report-events.ts';
import type { Plan } from '../../../src/plan/plan.ts';
import { expectedSeconds, projectDowntime } from '../../../src/workflows/downtime.ts';
import type { PhaseName } from '../../../src/workflows/messages.ts';
import { addNodes } from '../../../src/workflows/phases/add-nodes.ts';
import { backup } from '../../../src/workflows/phases/backup.ts';
import { editSecrets } from '../../../src/workflows/phases/edit-secrets.ts';
import { finalCopy } from '../../../src/workflows/phases/final-copy.ts';
import { startHostServices, stopHostServices } from '../../../src/workflows/phases/host-services.ts';
import { preflight } from '../../../src/workflows/phases/preflight.ts';
import { prewarm } from '../../../src/workflows/phases/prewarm.ts';
import { reinstall } from '../../../src/workflows/phases/reinstall.ts';
import { removeNodes } from '../../../src/workflows/phases/remove-nodes.ts';
import { replicate } from '../../../src/workflows/phases/replicate.ts';
import { startApps } from '../../../src/workflows/phases/start-apps.ts';
import { stopApps } from '../../../src/workflows/phases/stop-apps.ts';
import { uninstall } from '../../../src/workflows/phases/uninstall.ts';
import { verify } from '../../../src/workflows/phases/verify.ts';
import { initialState } from '../../../src/workflows/state.ts';
import {
  at,
  attributes,
  bar,
  call,
  copyRun,
  decision,
  digest,
  finished,
  history,
  pass,
  resultOf,
  sample,
  started,
} from './report-sample.ts';

describe('the report of a migration that ended', () => {
  const report = reportOf(finished(), at(200));

  it('says how it ended, from when to when', () => {
    expect(report).toMatchObject({
      outcome: 'migrated',
      cluster: 'sample',
      startedAt: at(0),
      endedAt: at(107),
      gaps: [],
    });
  });

  it('has phases and gates with their times', () => {
    expect(report.phases.map((phase) => [phase.name, phase.state, phaseSeconds(phase)])).toEqual([
      ['preflight', 'done', 60],
      ['replicate', 'done', 59 * 60],
      ['stop-apps', 'done', 120],
      ['prewarm', 'skipped', undefined],
    ]);
    expect(report.gates.map((gate) => [gate.name, gate.state, gateWait(gate)])).toEqual([
      ['open-downtime', 'approved', 1800],
      ['remove-nodes', 'pending', undefined],
      ['close-downtime', 'pending', undefined],
    ]);
  });

  it('holds the measured downtime against what was projected when the window was opened, and the budget', () => {
    expect(report.downtime).toEqual({
      budgetSeconds: 3600,
      projectedSeconds: 900,
      projectedFrom: 'approval',
      startedAt: at(90),
      endedAt: at(106),
      spentSeconds: 960,
    });
    expect(verdictOnDowntime(report)).toEqual({ text: 'within the budget, 1m00s more than projected', tone: 'good' });
  });

  it('has every pass of a transfer once, with digest and proof', () => {
    const [first] = report.transfers;

    expect(first?.passes.map(({ mode, literalBytes }) => [mode, literalBytes])).toEqual([
      ['live', 1_000_000],
      ['live', 4000],
      ['final', 500],
    ]);
    expect(first).toMatchObject({ state: 'verified', movedBytes: 1_004_500, digest, proof: 'full: 10 entries' });
  });

  it('has every decision, with the identity that the server recorded', () => {
    expect(report.decisions.map(({ by, counted, why, identity }) => [by, counted, why, identity])).toEqual([
      ['ops', false, 'ops wrote the plan', 'temporal-cli:ops@laptop'],
      ['li', true, undefined, 'temporal-cli:li@laptop'],
    ]);
  });

  it('has placement before and after, and compares probes at rest, whatever applications wrote later', () => {
    expect(report.placement[0]).toMatchObject({
      before: 'node-1',
      after: 'node-4',
      path: '/sysvol/redis',
      ready: true,
    });
    expect(report.probes).toMatchObject([
      { name: 'keys', before: '10', after: '10', withApplications: '57', verdict: 'same' },
      { name: 'gone', before: '1', verdict: 'missing' },
      { name: 'mute', verdict: 'never taken', why: 'HTTP 404' },
    ]);
    expect(report.probes[2]).not.toHaveProperty('before');
    expect(reportMarkdown(report)).toContain('| keys | 10 | 10 | same | 57 |');
    expect(reportHtml(report)).toContain('57');
  });

  it('says what nobody could prove, and which gate was approved all the same', () => {
    for (const text of [reportMarkdown(report), reportHtml(report)]) {
      expect(text).toContain('nsq-0 does not answer the probe queued');
      expect(text).toContain('never taken: HTTP 404');
    }
  });

  it('has every retry with its cause, also those of copies', () => {
    expect(report.retries.map(({ activity, attempts, cause }) => [activity, attempts, cause])).toEqual([
      ['runPass', 2, expect.stringContaining('its worker was lost')],
      ['applyConfig', 3, 'kubesuite said <no> | twice'],
    ]);
  });

  it('has what every try said, and says which left no word', () => {
    const apply = report.retries.at(-1);

    expect(apply?.tries).toEqual([
      { from: 1, to: 1, cause: expect.stringContaining('left no word') as string },
      { from: 2, to: 2, cause: 'kubesuite said <no> | twice' },
    ]);
    expect(reportMarkdown(report)).toMatch(/1: left no word: .*; 2: kubesuite said/);
    expect(reportHtml(report)).toContain('<div class="long">2: kubesuite said &lt;no&gt; | twice</div>');
  });

  it('has whom its messages reached, and why not', () => {
    const [notice] = report.notifications;

    expect(notice).toEqual({
      at: at(61),
      event: 'gate',
      gate: 'open-downtime',
      delivered: ['pager'],
      failed: [{ target: 'team', why: 'HTTP 503, 8 tries' }],
    });
    expect(reportMarkdown(report)).toContain('| gate open-downtime | pager | team: HTTP 503, 8 tries |');
    expect(reportHtml(report)).toContain('team: HTTP 503, 8 tries');
  });

  it('says what a history holds of tries, where there are some', () => {
    expect(reportMarkdown(report)).toContain(retriesNote);
    expect(reportHtml(report)).toContain(retriesNote);
    expect(reportMarkdown({ ...report, retries: [] })).not.toContain(retriesNote);
  });

  it('has backup digests and the versions of whoever worked', () => {
    expect(report.backup).toEqual([{ name: 'secret-a.json', digest }]);
    expect(report.versions).toContainEqual({ name: 'worker', version: 'ferry/0.1.0 42@bastion' });
  });
});

describe('the report of a migration that was rolled back', () => {
  it('says so', () => {
    const report = reportOf(finished({ outcome: 'rolled-back' }), at(200));

    expect(report.outcome).toBe('rolled-back');
    expect(reportMarkdown(report)).toContain('rolled back to the old machines');
  });

  it('ends the wait at the gate that an abort left', () => {
    const plan = sample();
    const result = resultOf(plan);
    const status = {
      ...result.status,
      gates: result.status.gates.map((gate) =>
        gate.name === 'open-downtime' ? { name: gate.name, state: 'awaiting', required: 1, openedAt: at(60) } : gate,
      ),
    };
    const events: ReportEvent[] = [
      started(plan, 0),
      attributes(60, 'replicate', 'open-downtime'),
      decision(65, 'abort', { by: 'li', reason: 'not tonight' }, 'update'),
      attributes(65, 'replicate'),
      { at: at(76), kind: 'ended', how: 'completed', result: { ...result, outcome: 'rolled-back', status } },
    ];

    const [gate] = reportOf(history(events), at(200)).gates;

    expect(gate).toEqual({
      name: 'open-downtime',
      state: 'closed',
      required: 1,
      openedAt: at(60),
      decidedAt: at(65),
    });
  });
});

/** Steps that lie within a bar. */
function around([began, ...ended]: ReportEvent[], ...steps: ReportEvent[][]): ReportEvent[] {
  return [...(began === undefined ? [] : [began]), ...steps.flat(), ...ended];
}

function windowOf(plan: Plan): { name: PhaseName; section: number }[] {
  return [...expectedSeconds(plan, []).keys()].map((name) => ({ name, section: sections[name] }));
}

describe('the report of a migration that runs', () => {
  const plan = sample();
  const [first = '', second = ''] = plan.transfers.map(({ id }) => id);
  // Every pass moves everything: the last one will take as long.
  const whole = (minutes: number, seconds: number): ReturnType<typeof pass> => ({
    ...pass(minutes, 1, 'live', seconds * 1e8),
    ...{ seconds, totalBytes: seconds * 1e8 },
  });
  const copied = (minutes: number, seconds: number): ReportEvent => ({
    at: at(minutes),
    kind: 'child-completed',
    workflowId: `migrate-sample/${second}`,
    result: { id: second, mode: 'live', isWhole: true, passes: [whole(minutes, seconds)] },
  });
  const events = [
    started(plan, 0),
    attributes(0, 'preflight'),
    ...around(
      bar(0, '§4 preflight', 1),
      call(0, 'holdCluster', { changed: true, proof: 'holds the cluster' }),
      call(0, 'preflight', [
        { name: 'nodes', state: 'good', proof: 'all Ready' },
        { name: 'probes', state: 'warning', cause: 'nsq does not answer' },
      ]),
    ),
    // Named in passing, though the plan skips them.
    attributes(1, 'prewarm'),
    attributes(1, 'replicate'),
    ...around(bar(1, '§7 replicate', 60), [copied(30, 400)]),
    // Named as the next to come, minutes before its gate opens.
    attributes(60, 'stop-apps'),
    attributes(62, 'replicate', 'open-downtime'),
    decision(90, 'approve', { gate: 'open-downtime', by: 'li', reason: 'window' }, 'update'),
    attributes(90, 'stop-apps', undefined, 90),
    // Too late: nothing tells yet that it did not count.
    decision(92, 'approve', { gate: 'open-downtime', by: 'zhao', reason: 'me too' }),
    // A round that ends after the approval changes nothing of what people saw.
    copied(91, 4000),
    ...around(bar(90, '§8 stop-apps', 92), call(90, 'stopApplications', { changed: true, proof: '0 pods in shop' })),
    attributes(92, 'uninstall', undefined, 90),
    ...bar(92, '§11 uninstall'),
    ...call(93, 'uninstallComponent', undefined, { failure: { type: 'NeedsHuman', message: 'a finalizer blocks' } }),
  ];
  const copies = [
    copyRun(
      `migrate-sample/${first}`,
      call(5, 'runPass', pass(5, 1, 'live', 700), { input: { pass: 1, mode: 'live' } }),
    ),
  ];
  const report = reportOf(history(events, copies), at(100));

  it('takes phases from the timeline, which no gate and no skipped phase makes longer', () => {
    expect(report.outcome).toBe('running');
    expect(report.phases.filter(({ startedAt }) => startedAt !== undefined)).toEqual([
      {
        name: 'preflight',
        section: 4,
        state: 'done',
        startedAt: at(0),
        endedAt: at(1),
        doneAt: at(1),
        detail: '2 checks, 1 good; warning: probes: nsq does not answer',
      },
      {
        name: 'replicate',
        section: 7,
        state: 'done',
        startedAt: at(1),
        endedAt: at(60),
        doneAt: at(60),
        detail: `1 of ${plan.transfers.length} directories copied`,
      },
      {
        name: 'stop-apps',
        section: 8,
        state: 'done',
        startedAt: at(90),
        endedAt: at(92),
        doneAt: at(92),
        detail: '0 pods in shop',
      },
      { name: 'uninstall', section: 11, state: 'running', startedAt: at(92) },
    ]);
    expect(report.phases.filter(({ state }) => state === 'skipped').map(({ name }) => name)).toEqual([
      'prewarm',
      'backup',
      'add-nodes',
      'edit-secrets',
    ]);
  });

  it('has no phase as begun whose gate still waits', () => {
    const early = reportOf(history(events.filter((event) => Date.parse(event.at) < Date.parse(at(90)))), at(80));

    expect(early.gates[0]).toMatchObject({ state: 'awaiting', openedAt: at(62) });
    expect(early.phases.find(({ name }) => name === 'stop-apps')).toEqual({
      name: 'stop-apps',
      section: 8,
      state: 'pending',
    });
  });

  it('takes gates from the search attributes', () => {
    expect(report.gates[0]).toEqual({
      name: 'open-downtime',
      state: 'approved',
      required: 1,
      openedAt: at(62),
      decidedAt: at(90),
    });
  });

  it('counts the downtime until now and says what is not known yet', () => {
    expect(report.downtime).toMatchObject({ startedAt: at(90), spentSeconds: 600 });
    expect(report.gaps.join()).toContain('still running');
  });

  it('projects as people saw it when they opened the window, and before that by the plan', () => {
    const early = reportOf(history(events.filter((event) => Date.parse(event.at) < Date.parse(at(90)))), at(80));
    const transfers = initialState(plan, [], at(0)).transfers.map((transfer) =>
      transfer.id === second ? { ...transfer, projectedFinalSeconds: 400, passes: [whole(30, 400)] } : transfer,
    );
    const seen = projectDowntime(plan, initialState(plan, windowOf(plan), at(0)).phases, transfers, [], 0);

    expect(early.downtime).toMatchObject({ projectedFrom: 'plan', projectedSeconds: projectedDowntime(plan).seconds });
    expect(report.downtime).toMatchObject({ projectedFrom: 'approval', projectedSeconds: Math.round(seen.seconds) });
    expect(seen.seconds).not.toBe(projectedDowntime(plan).seconds);
  });

  it('compares a downtime that is not over with nothing', () => {
    expect(verdictOnDowntime(report)).toEqual({
      text: 'open since 2026-11-24 02:30:00 UTC, within the budget so far',
      tone: '',
    });
    expect(reportMarkdown(report)).toContain('| downtime | 10m00s so far |');
    expect(reportHtml(report)).toContain('10m00s so far');
  });

  it('counts no further than to the end of one that was terminated, and says that applications were down', () => {
    const end = { at: at(95), kind: 'ended' as const, how: 'terminated' as const, why: 'enough' };
    const [soon, late] = [100, 5000].map((minutes) => reportOf(history([...events, end]), at(minutes)));

    expect(soon?.downtime).toMatchObject({ startedAt: at(90), spentSeconds: 300, projectedFrom: 'approval' });
    expect(late?.downtime).toEqual(soon?.downtime);
    for (const text of [reportMarkdown(late ?? report), reportHtml(late ?? report)]) {
      expect(text).toContain('5m00s until the workflow ended');
      expect(text).toContain(
        'applications were down, since 2026-11-24 02:30:00 UTC, when the workflow ended (terminated) at 2026-11-24 02:35:00 UTC',
      );
      expect(text).not.toContain('than projected');
    }
  });

  it('ends the downtime when the applications run again, and goes on where the way back stops them', () => {
    const back = call(100, 'startApplications', { changed: true, proof: 'ok' });
    const again = call(110, 'stopApplications', { changed: true, proof: 'ok' });
    const up = reportOf(history([...events, ...back]), at(200));
    const down = reportOf(history([...events, ...back, ...again]), at(112));

    expect(up.downtime).toMatchObject({ startedAt: at(90), endedAt: at(101), spentSeconds: 660 });
    expect(down.downtime).toMatchObject({ startedAt: at(90), spentSeconds: 660 + 120 });
    expect(down.downtime).not.toHaveProperty('endedAt');
  });

  it('has decisions from the messages, passes from the copies, and failures', () => {
    expect(report.decisions).toMatchObject([
      { by: 'li', counted: true, via: 'update', reason: 'window' },
      { by: 'zhao', via: 'signal', reason: 'me too' },
    ]);
    expect(report.transfers[0]).toMatchObject({ state: 'copying', movedBytes: 700 });
    expect(report.failures).toMatchObject([{ type: 'NeedsHuman', cause: 'a finalizer blocks' }]);
  });

  it('has a failure every time that it came, and that of a copy once', () => {
    const failure = { type: 'NeedsHuman', message: 'a finalizer blocks' };
    const full = { type: 'NeedsHuman', message: 'no space' };
    const copyId = `migrate-sample/${first}`;
    const again = reportOf(
      history(
        [
          ...events,
          ...call(140, 'uninstallComponent', undefined, { failure }),
          { at: at(150), kind: 'child-failed', workflowId: copyId, failure: full },
        ],
        [copyRun(copyId, call(149, 'runPass', undefined, { failure: full }))],
      ),
      at(160),
    );

    expect(again.failures.map(({ at: when, cause }) => [when, cause])).toEqual([
      [at(94), 'a finalizer blocks'],
      [at(141), 'a finalizer blocks'],
      [at(150), 'no space'],
    ]);
  });
});

describe('the report of a migration that goes back', () => {
  const task = (minutes: number) => ({ at: at(minutes), kind: 'task-started' as const, identity: 'w' });
  const report = reportOf(
    history([
      started(sample(), 0),
      ...bar(0, '§8 stop-apps', 1),
      task(1),
      ...bar(1, '§10 edit-secrets').slice(0, 1),
      ...withAbort(5),
      task(6),
      ...bar(6, 'undo §10 edit-secrets', 7),
      task(7),
      ...bar(7, 'undo §8 stop-apps'),
    ]),
    at(8),
  );

  function withAbort(minutes: number) {
    const [began, ended] = bar(2, '§11 uninstall', minutes);
    if (began === undefined || ended === undefined) throw new TypeError('a bar has two ends');
    return [began, decision(minutes, 'abort', { by: 'li', reason: 'no' }), task(minutes), ended];
  }

  it('does not take what an abort ended for done', () => {
    const states = report.phases.map(({ name, state, doneAt }) => [name, state, doneAt]);

    expect(states).toContainEqual(['uninstall', 'broken off', undefined]);
    expect(states).toContainEqual(['edit-secrets', 'undone', undefined]);
    expect(states).toContainEqual(['stop-apps', 'undoing', at(1)]);
  });
});

describe('the report of a migration with several runs', () => {
  const plan = sample();
  const state = initialState(
    plan,
    [
      { name: 'preflight', section: 4 },
      { name: 'replicate', section: 7 },
    ],
    at(0),
  );
  const [record] = resultOf(plan).status.decisions;
  const carried = {
    ...state,
    phases: [
      { name: 'preflight', section: 4, state: 'done', startedAt: at(0), endedAt: at(1), detail: 'good' },
      { name: 'replicate', section: 7, state: 'running', startedAt: at(1) },
    ],
    decisions: [record],
    gates: {
      ...state.gates,
      'open-downtime': { ...state.gates['open-downtime'], state: 'awaiting', openedAt: at(60) },
    },
  };
  const workflowId = 'migrate-sample';
  const reportWith = (minutes: number, ...since: ReportEvent[]): ReturnType<typeof reportOf> =>
    reportOf(
      {
        workflowId,
        copies: [],
        gaps: [],
        runs: [
          {
            workflowId,
            runId: 'a',
            events: [
              started(plan, 0),
              attributes(0, 'preflight'),
              attributes(60, 'replicate', 'open-downtime'),
              decision(70, 'approve', { gate: 'open-downtime', by: 'ops', reason: 'me' }, 'signal', 'first'),
              attributes(80, 'stop-apps'),
              { at: at(80), kind: 'continued', runId: 'b', input: [] },
            ],
          },
          {
            workflowId,
            runId: 'b',
            events: [
              started(plan, 80, { continuedFrom: 'a' }, carried),
              attributes(80, 'replicate', 'open-downtime'),
              decision(85, 'pause', { by: 'wang', reason: 'lunch' }, 'signal', 'second'),
              ...since,
            ],
          },
        ],
      },
      at(minutes),
    );
  const report = reportWith(90);

  it('joins what the last run was handed and what happened since', () => {
    expect(report.runs.map(({ runId }) => runId)).toEqual(['a', 'b']);
    expect(report.startedAt).toBe(at(0));
    expect(report.phases[0]).toMatchObject({ name: 'preflight', state: 'done', detail: 'good' });
    expect(report.gates[0]).toEqual({ name: 'open-downtime', state: 'awaiting', required: 1, openedAt: at(60) });
    expect(report.decisions.map(({ decision: what, identity }) => [what, identity])).toEqual([
      ['approve', 'first'],
      ['pause', 'second'],
    ]);
  });

  it('keeps what the last run decided when it was ended from outside', () => {
    const ended = reportWith(
      110,
      decision(95, 'approve', { gate: 'open-downtime', by: 'zhao', reason: 'window' }, 'update', 'third'),
      attributes(95, 'stop-apps', undefined, 95),
      { at: at(100), kind: 'ended', how: 'terminated', why: 'enough' },
    );

    expect(ended.outcome).toBe('terminated');
    expect(ended.decisions.map(({ by, identity }) => [by, identity])).toEqual([
      ['ops', 'first'],
      ['wang', 'second'],
      ['zhao', 'third'],
    ]);
    expect(ended.gates[0]).toMatchObject({ state: 'approved', openedAt: at(60), decidedAt: at(95) });
    expect(ended.downtime).toMatchObject({ startedAt: at(95), projectedFrom: 'approval' });
  });
});

describe('a migration that did not end by itself', () => {
  it.each([
    ['terminated', 'terminated: enough (by temporal-cli:li@laptop)'],
    ['failed', 'failed: enough (by temporal-cli:li@laptop)'],
  ] as const)('%s says why', (how, text) => {
    const events = [
      started(sample(), 0),
      attributes(0, 'preflight'),
      ...bar(0, '§4 preflight'),
      { at: at(5), kind: 'ended' as const, how, why: 'enough', identity: 'temporal-cli:li@laptop' },
    ];
    const report = reportOf(history(events), at(6));

    expect(reportMarkdown(report)).toContain(inline(text));
    expect(report.phases[0]).toEqual({
      name: 'preflight',
      section: 4,
      state: 'broken off',
      startedAt: at(0),
      endedAt: at(5),
    });
  });
});

describe('a history whose plan cannot be read', () => {
  it('is still reported', () => {
    const report = reportOf(history([started({ some: 'thing' } as never, 0)]), at(1));

    expect(report.gaps.join()).toContain('the plan in this history cannot be read');
    expect(reportHtml(report)).toContain('Nothing has begun yet');
  });
});

describe('the sections of the phases', () => {
  it('are those of the workflow', () => {
    const phases = [
      ...[preflight, prewarm, backup, replicate, stopApps, addNodes, editSecrets, uninstall, stopHostServices],
      ...[finalCopy, startHostServices, reinstall, removeNodes, startApps, verify],
    ];

    expect(sections).toEqual(Object.fromEntries(phases.map(({ name, section }) => [name, section])));
  });
});

describe('the report of a later try', () => {
  it('names the earlier ones, and how to get their reports', () => {
    const earlier = [{ runId: 'first-run', startedAt: at(-100), endedAt: at(-50), outcome: 'rolled back' }];
    const report = reportOf({ ...finished(), earlier }, at(200));
    const text =
      '2026-11-23 23:20:00 UTC to 2026-11-24 00:10:00 UTC, rolled back: ferry report migrate-sample --run-id first-run';

    expect(reportMarkdown(report)).toContain(`| earlier try | ${text} |`);
    expect(reportHtml(report)).toContain(`Earlier try: ${text}`);
    expect(reportMarkdown(reportOf(finished(), at(200)))).not.toContain('earlier try');
  });
});

describe('the timeline', () => {
  it('keeps order and gives every interval room', () => {
    const place = timeScale([0, 1000, 86_400_000], 100, 900);

    expect(place(0)).toBe(100);
    expect(place(86_400_000)).toBe(900);
    expect(place(1000)).toBeGreaterThan(102);
  });

  it('has phases that began and gates that opened, in time', () => {
    const rows = timelineRows(reportOf(finished(), at(200)));

    expect(rows.map(({ name }) => name)).toEqual(['preflight', 'replicate', 'gate open-downtime', 'stop-apps']);
  });
});

const evil = `<script>alert("x")</script>&'\u0000`;

function poisoned(): ReportModel {
  const poison = (value: unknown, key = ''): unknown => {
    if (Array.isArray(value)) return value.map((item) => poison(item, key));
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, poison(child, name)]));
    }
    const kept = ['outcome', 'verdict', 'projectedFrom', 'tone'].includes(key) || /At$|^at$/.test(key);
    return typeof value === 'string' && !kept ? evil : value;
  };
  return poison(reportOf(finished(), at(200))) as ReportModel;
}

describe('the report as HTML', () => {
  const page = reportHtml(reportOf(finished(), at(200)));

  it('holds everything that the record needs', () => {
    for (const text of [
      'window',
      'ops wrote the plan',
      digest,
      'full: 10 entries',
      'secret-a.json',
      'node-4',
      '16m00s',
    ]) {
      expect(page).toContain(text);
    }
    expect(page).toContain('<svg');
  });

  it('refers to nothing outside of itself and runs nothing', () => {
    expect(page).not.toMatch(/<script|<link|<img|src=|href=|url\(|@import/);
    expect(page).toContain(`default-src 'none'`);
    expect(page).toContain('@media print');
  });

  it('escapes whatever stands in a history', () => {
    const text = reportHtml(poisoned());

    expect(text).not.toContain('<script');
    expect(text).toContain('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;\ufffd');
    expect(text).not.toContain('\u0000');
  });
});

describe('the report as Markdown', () => {
  it('lets nothing become markup or another cell', () => {
    const text = reportMarkdown(reportOf(finished(), at(200)));

    expect(text).toContain('kubesuite said \\<no\\> \\| twice');
    expect(reportMarkdown(poisoned())).not.toMatch(/(?<!\\)<script/);
  });

  it('has the same sections as the page', () => {
    const titles = (text: string, pattern: RegExp): string[] =>
      [...text.matchAll(pattern)].map(([, title]) => title ?? '');
    const report = reportOf(finished(), at(200));
    const page = titles(reportHtml(report), /<h2>([^<]*)<\/h2>/g).filter((title) => title !== 'Timeline');

    expect(titles(reportMarkdown(report), /^## (.*)$/gm).toSorted()).toEqual(page.toSorted());
  });
});

describe('the report as JSON', () => {
  it('is the model', () => {
    const report = reportOf(finished(), at(200));

    expect(JSON.parse(renderReport(report, 'json'))).toEqual(report);
  });
});

describe('the report as other commands print', () => {
  const report = reportOf(finished(), at(200));

  it('is YAML of the model, and for a table Markdown', () => {
    expect(parse(renderReport(report, 'yaml'))).toEqual(JSON.parse(renderReport(report, 'json')));
    expect(renderReport(report, 'table')).toBe(renderReport(report, 'markdown'));
  });
});

describe('formatOf', () => {
  it.each([
    [undefined, 'markdown'],
    ['r.html', 'html'],
    ['r.htm', 'html'],
    ['r.json', 'json'],
    ['r.yaml', 'yaml'],
    ['r.md', 'markdown'],
  ])('%s is %s', (file, format) => {
    expect(formatOf(file)).toBe(format);
  });
});
