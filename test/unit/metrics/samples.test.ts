import { describe, expect, it } from 'vitest';
import type { CopyActivity } from '../../../src/client/migrations.ts';
import type { Course, MetricName, Sample } from '../../../src/metrics.ts';
import { metrics, samplesOf } from '../../../src/metrics.ts';
import type { MigrationStatus, PassSummary, TransferStatus } from '../../../src/workflows/messages.ts';
import { viewStatus } from '../../../src/workflows/status.ts';
import { at, atGate, blockedIn, fresh, pausedBy, plan, startTime } from '../workflows/states.ts';
import { dashboard, metricsIn, namedMetrics, rules } from './named.ts';

function told(
  status: MigrationStatus,
  {
    seconds = 90,
    progress = new Map(),
    course = 'running',
  }: { seconds?: number; progress?: ReadonlyMap<string, CopyActivity>; course?: Course } = {},
): Sample[] {
  return samplesOf(status, progress, startTime + seconds * 1000, course);
}

function statusAt(seconds: number, state = fresh()): MigrationStatus {
  return viewStatus(plan, state, startTime + seconds * 1000);
}

function value(samples: readonly Sample[], name: MetricName, tags: Record<string, string> = {}): number | undefined {
  const wanted = Object.entries({ cluster: 'unit', ...tags });
  return samples.find((sample) => sample.name === name && wanted.every(([tag, text]) => sample.tags[tag] === text))
    ?.value;
}

function pass(number: number, startedAt: string, literalBytes: number): PassSummary {
  return {
    pass: number,
    mode: 'live',
    startedAt,
    seconds: 10,
    files: 1,
    filesTransferred: 1,
    deleted: 0,
    totalBytes: 5000,
    literalBytes,
    matchedBytes: 0,
    bytesPerSecond: 1,
    vanished: false,
  };
}

function withTransfer(change: Partial<TransferStatus>): MigrationStatus {
  const status = statusAt(90);
  const [first, ...rest] = status.transfers;
  return { ...status, transfers: [{ ...first!, id: 'redis-0', ...change }, ...rest] };
}

describe('what is told of a status', () => {
  it('is one value for each metric and its tags, of the metrics that are described', () => {
    const samples = told(statusAt(90));
    const keys = samples.map(({ name, tags }) => `${name} ${JSON.stringify(tags)}`);

    expect(new Set(keys).size).toBe(keys.length);
    expect(samples.filter(({ name }) => !(name in metrics))).toEqual([]);
    expect(samples.every(({ value: number }) => Number.isFinite(number))).toBe(true);
  });

  it('names the gate that waits and for how long', () => {
    const samples = told(statusAt(90, atGate('open-downtime')));

    expect(value(samples, 'ferry_gate_awaiting', { gate: 'open-downtime' })).toBe(1);
    expect(value(samples, 'ferry_gate_awaiting', { gate: 'remove-nodes' })).toBe(0);
    expect(value(samples, 'ferry_gate_wait_seconds', { gate: 'open-downtime' })).toBe(90);
    expect(value(samples, 'ferry_migration_state', { state: 'awaiting-gate' })).toBe(1);
  });

  it('counts no wait at a gate that an abort left', () => {
    const left = { ...statusAt(90, atGate('open-downtime')) };
    delete left.awaitingGate;
    const samples = told({ ...left, state: 'rolling-back' });

    expect(value(samples, 'ferry_gate_wait_seconds', { gate: 'open-downtime' })).toBeUndefined();
    expect(value(samples, 'ferry_gate_awaiting', { gate: 'open-downtime' })).toBe(0);
  });

  it('says since when a person is needed', () => {
    const samples = told(statusAt(90, blockedIn('backup')));

    expect(value(samples, 'ferry_migration_blocked')).toBe(1);
    expect(value(samples, 'ferry_migration_blocked_seconds')).toBe(90);
    expect(value(told(statusAt(90, pausedBy('li'))), 'ferry_migration_paused')).toBe(1);
  });

  it.each<Course>(['ended', 'broken-off'])(
    'keeps nobody waiting once the migration has %s, whatever it was doing',
    (course) => {
      for (const state of [blockedIn('backup'), pausedBy('li'), atGate('open-downtime')]) {
        const samples = told(statusAt(90, state), { course });
        const waiting = samples.filter(
          ({ name }) =>
            /_(running|blocked|blocked_seconds|paused|awaiting|phase|attempt|bytes_per_second)$/.test(name) &&
            !name.includes('dirty'),
        );

        expect(waiting.length).toBeGreaterThan(10);
        expect(waiting.filter((sample) => sample.value !== 0)).toEqual([]);
      }
    },
  );

  it('tells the downtime while it runs', () => {
    const status = { ...statusAt(90), downtime: { ...statusAt(90).downtime, startedAt: at(30), spentSeconds: 60 } };
    const samples = told(status);

    expect(value(samples, 'ferry_downtime_running')).toBe(1);
    expect(value(samples, 'ferry_downtime_seconds')).toBe(60);
    expect(value(samples, 'ferry_downtime_budget_seconds')).toBe(plan.downtime.budgetSeconds);
  });

  it('tells on that applications are stopped where the migration broke off, and in no state of its own', () => {
    const window = atGate('remove-nodes');
    const downtime = { ...statusAt(90).downtime, startedAt: at(30), spentSeconds: 60 };
    const of = (course: Course): Sample[] => told({ ...statusAt(90, window), downtime }, { course });
    const states = of('broken-off').filter(({ name }) => name === 'ferry_migration_state');

    expect(value(of('broken-off'), 'ferry_migration_broken_off')).toBe(1);
    expect(value(of('broken-off'), 'ferry_downtime_running')).toBe(1);
    expect(value(of('broken-off'), 'ferry_migration_running')).toBe(0);
    expect(states.map((sample) => sample.value)).toEqual(states.map(() => 0));
    expect(value(of('ended'), 'ferry_migration_broken_off')).toBe(0);
    expect(value(of('ended'), 'ferry_downtime_running')).toBe(0);
    expect(value(of('running'), 'ferry_migration_broken_off')).toBe(0);
  });

  it('tells of a copy what its heartbeat says', () => {
    const progress = new Map<string, CopyActivity>([
      [
        'redis-0',
        { attempt: 2, progress: { pass: 3, step: 'copying', bytes: 40, total: 100, files: 1, bytesPerSecond: 7 } },
      ],
    ]);
    const samples = told(withTransfer({ state: 'copying', passes: [pass(1, at(0), 300), pass(2, at(20), 200)] }), {
      progress,
    });
    const of = (name: MetricName): number | undefined => value(samples, name, { transfer: 'redis-0' });

    expect(of('ferry_transfer_pass')).toBe(3);
    expect(of('ferry_transfer_pass_bytes')).toBe(40);
    expect(of('ferry_transfer_pass_expected_bytes')).toBe(100);
    expect(of('ferry_transfer_bytes_per_second')).toBe(7);
    expect(of('ferry_transfer_attempt')).toBe(2);
    expect(of('ferry_transfer_moved_bytes')).toBe(500);
    expect(of('ferry_transfer_dirty_bytes_per_second')).toBe(10);
    expect(of('ferry_transfer_size_bytes')).toBe(5000);
  });

  it.each([
    ['no pass', [], 0],
    ['one pass', [pass(1, at(0), 300)], 0],
    ['two at the same moment', [pass(1, at(0), 300), pass(2, at(0), 300)], 0],
  ])('after %s knows no dirty rate', (_name, passes, rate) => {
    expect(
      value(told(withTransfer({ passes })), 'ferry_transfer_dirty_bytes_per_second', { transfer: 'redis-0' }),
    ).toBe(rate);
  });
});

describe('deploy/prometheus and deploy/grafana', () => {
  it('name only metrics that are told, and every one of them', () => {
    const ours = namedMetrics.filter((name) => name.startsWith('ferry_'));

    expect(ours).toEqual(Object.keys(metrics).sort());
  });

  it.each(rules)(
    '$alert says how bad it is, what it is and what to do, and takes one value of many workers',
    (rule) => {
      expect(rule.alert).toMatch(/^Ferry[A-Z]/);
      expect(['info', 'warning', 'critical']).toContain(rule.labels.severity);
      expect(rule.annotations.summary).not.toBe('');
      expect(rule.annotations.description).not.toBe('');
      // Two workers tell of the same migration: neither may be counted twice.
      for (const [before] of rule.expr.matchAll(/.{0,40}ferry_\w+/g))
        expect(before).toMatch(/max by \([\w, ]+\) \(ferry_/);
      expect(metricsIn(rule.expr).length + Number(rule.expr.startsWith('up'))).toBeGreaterThan(0);
    },
  );

  it('have panels that do not overlap and fit the screen', () => {
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, index) => `${x + (index % w)}/${y + Math.floor(index / w)}`),
    );

    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.x + gridPos.w))).toBe(24);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });
});
