import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plan, PlanInput } from '../../../src/plan/plan.ts';
import type { DowntimeSpan, Projection } from '../../../src/workflows/downtime.ts';
import {
  begin,
  end,
  expectedSeconds,
  growthBetween,
  isDown,
  projectDowntime,
  spentSeconds,
} from '../../../src/workflows/downtime.ts';
import type { PhaseName, TransferStatus } from '../../../src/workflows/messages.ts';
import { planOf } from '../../workflow/plans.ts';
import { at, fresh, plan, start, startTime, withPhase } from './states.ts';

describe('the clock', () => {
  it('begins once, ends once, and begins anew after applications had run again', () => {
    const down = begin([], at(0));
    const up = end(down, at(100));
    const downAgain = begin(up, at(200));

    expect(begin(down, at(50))).toEqual(down);
    expect(end(up, at(150))).toEqual(up);
    expect([[], down, up, downAgain].map(isDown)).toEqual([false, true, false, true]);
    expect(spentSeconds(downAgain, startTime + 230_000)).toBe(130);
  });

  it('counts exactly the time without applications, in whichever order people stop and start', () => {
    const steps = fc.array(fc.tuple(fc.constantFrom('begin', 'end', 'wait'), fc.integer({ min: 0, max: 1000 })));
    fc.assert(
      fc.property(steps, (moves) => {
        let spans: ReturnType<typeof begin> = [];
        let now = 0;
        let down = false;
        let spent = 0;
        for (const [move, seconds] of moves) {
          if (move === 'begin') {
            spans = begin(spans, at(now));
            down = true;
          }
          if (move === 'end') {
            spans = end(spans, at(now));
            down = false;
          }
          now += seconds;
          if (down) spent += seconds;
        }
        expect(spentSeconds(spans, startTime + now * 1000)).toBe(spent);
        expect(isDown(spans)).toBe(down);
      }),
    );
  });

  it('never runs backwards when clocks of two machines disagree', () => {
    expect(spentSeconds([{ startedAt: at(10) }], startTime)).toBe(0);
  });
});

describe('what a plan has inside its window', () => {
  it.each<[string, Partial<PlanInput>, PhaseName, boolean]>([
    ['stopping', {}, 'stop-apps', true],
    ['adding nodes', {}, 'add-nodes', true],
    ['removal by default', {}, 'remove-nodes', true],
    [
      'removal placed after the applications',
      { gates: { ...plan.gates, removeNodesAfter: 'start-apps' } },
      'remove-nodes',
      false,
    ],
    ['host services', {}, 'stop-host-services', true],
    ['the online phases', {}, 'replicate', false],
    ['verification', {}, 'verify', false],
  ])('%s', (_name, change, phase, isInside) => {
    expect(expectedSeconds(planOf('window', change), []).has(phase)).toBe(isInside);
  });

  it('leaves out what there is nothing to do for', () => {
    const names = [
      ...expectedSeconds(
        {
          ...plan,
          components: [],
          transfers: [],
          nodes: { add: [], remove: [] },
          hostServices: { ...plan.hostServices, hosts: [] },
        },
        [],
      ).keys(),
    ];

    expect(names).toEqual(['stop-apps', 'start-apps']);
  });

  it('believes a rehearsal more than a default', () => {
    const learned = planOf('learned', { downtime: { budgetSeconds: 600, expectedSeconds: { 'stop-apps': 40 } } });

    expect(expectedSeconds(learned, []).get('stop-apps')).toEqual({ seconds: 40, errorSeconds: 6 });
    expect(expectedSeconds(plan, []).get('stop-apps')).toEqual({ seconds: 120, errorSeconds: 60 });
  });

  it('takes the slowest host for the final copy, from measured passes where there are any', () => {
    const measured = (id: string, seconds: number): TransferStatus => ({
      ...fresh().transfers.find((transfer) => transfer.id === id)!,
      projectedFinalSeconds: seconds,
    });
    const ids = plan.transfers.map(({ id }) => id);
    const all = ids.map((id) => measured(id, 10));
    const onOld1 = plan.transfers.filter(({ source }) => source.host === 'old1').length;
    const onOld2 = plan.transfers.filter(({ source }) => source.host === 'old2').length;

    const copied = expectedSeconds({ ...plan, transfers: plan.transfers.map(withoutSize) }, all).get('final-copy');
    // Two seconds of each are the comparison of what is small.
    expect(copied?.seconds).toBeCloseTo(Math.max(onOld1, onOld2) * 12);
    expect(expectedSeconds(plan, []).get('final-copy')?.seconds).toBeGreaterThan(5);
    expect(expectedSeconds(plan, [...all.slice(1), measured(ids[0]!, 900)]).get('final-copy')?.seconds).toBeGreaterThan(
      900,
    );
  });
});

/** A copy whose comparison takes no longer than that of any other. */
function withoutSize(transfer: Plan['transfers'][number]): Plan['transfers'][number] {
  return { ...transfer, observed: { bytes: 0, files: 0, freeBytes: 0 } };
}

describe('the final copy of one directory', () => {
  const GiB = 1024 ** 3;
  const [transfer] = plan.transfers;
  const observed = { bytes: 500 * GiB, files: 2000, freeBytes: 0 };
  const alone = (verify: Plan['verify'], change: Partial<TransferStatus> = {}): Projection => {
    const one = { ...plan, verify, transfers: [{ ...transfer!, observed }] };
    const status = { ...fresh().transfers.find(({ id }) => id === transfer!.id)!, projectedFinalSeconds: 60 };
    return expectedSeconds(one, [{ ...status, ...change }]).get('final-copy')!;
  };

  it.each<[Plan['verify'], number]>([
    // 500 GiB at 250 MiB/s.
    ['full', 60 + 2 + 0.2 + 2048],
    // 2000 times 640 KiB.
    ['sampled', 60 + 2 + 0.2 + 5],
    ['metadata', 60 + 2 + 0.2],
  ])('compared by %s takes %d s with its comparison, which lies inside the window', (verify, seconds) => {
    expect(alone(verify).seconds).toBeCloseTo(seconds);
    expect(alone(verify).errorSeconds).toBeCloseTo(60 * 0.25 + (seconds - 60) / 2);
  });

  it('keeps the error that the copy told', () => {
    const certain = alone('metadata', { projectedErrorSeconds: 3 });
    const vague = alone('metadata', { projectedErrorSeconds: 600 });

    expect(certain.errorSeconds).toBeCloseTo(3 + 1.1);
    expect(vague.errorSeconds).toBeCloseTo(600 + 1.1);
    expect(vague.seconds).toBe(certain.seconds);
  });

  it('is compared at the size that the last pass found, not that of the plan', () => {
    const last = { ...passOf(250 * GiB), files: 0 };

    expect(alone('full', { passes: [passOf(1), last] }).seconds).toBeCloseTo(60 + 2 + 1024);
  });

  it('shares the disks of its host with the others', () => {
    const two = plan.transfers.filter(({ source }) => source.host === transfer!.source.host).slice(0, 2);
    const both = { ...plan, transfers: two.map((one) => ({ ...one, observed })) };

    expect(two).toHaveLength(2);
    expect(expectedSeconds(both, []).get('final-copy')!.seconds).toBeGreaterThan(2 * 2048);
  });
});

describe('copies that grow old', () => {
  const hour = 3600;
  const MB = 1e6;
  const transfer = plan.transfers.find(({ source }) => source.host === 'old1')!;
  const alone = { ...plan, verify: 'metadata' as const, transfers: [transfer] };
  const pending = fresh().transfers.find(({ id }) => id === transfer.id)!;
  // 5 MB/s get dirty; a first copy at 100 MB/s, then every five minutes what came meanwhile.
  const passes = [-600, -300, 0].map((second, index) => ({
    ...passOf(2e12),
    ...{ pass: index + 1, startedAt: at(second), seconds: index === 0 ? 280 : 15 },
    literalBytes: index === 0 ? 28_000 * MB : 1500 * MB,
  }));
  const copied: TransferStatus = {
    ...pending,
    ...{ state: 'fresh', passes, projectedFinalSeconds: 15, projectedErrorSeconds: 1 },
  };
  const projected = (seconds: number, change: Partial<TransferStatus> = {}, spans: DowntimeSpan[] = []): Projection =>
    projectDowntime(alone, fresh().phases, [{ ...copied, ...change }], spans, startTime + seconds * 1000);
  const now = projected(0);

  it('are projected with what got dirty since, beyond the one pass that was expected', () => {
    const { seconds, errorSeconds } = projected(8 * hour);

    expect(projected(300)).toEqual(now);
    // 5 MB/s for eight hours but five minutes, at 100 MB/s.
    expect(seconds - now.seconds).toBeCloseTo(((8 * hour - 300) * 5) / 100);
    expect(errorSeconds - now.errorSeconds).toBeCloseTo((seconds - now.seconds) / 4);
  });

  it('never have more to move than there is', () => {
    const small = passes.map((pass) => ({ ...pass, totalBytes: 30_000 * MB }));

    // 1.5 of 30 GB were expected.
    expect(projected(1000 * hour, { passes: small }).seconds - now.seconds).toBeCloseTo(285);
  });

  it('grow no older once the applications are stopped, nor while others of their host are still at the last delta', () => {
    const spans = [{ startedAt: at(8 * hour) }];
    const last = { ...passOf(2e12), mode: 'final' as const, startedAt: at(9 * hour), seconds: 1500 };
    const stopped = projected(8 * hour, {}, spans);
    const whole = (change: Partial<TransferStatus>): number | undefined =>
      expectedSeconds(alone, [{ ...copied, ...change }], startTime + 8 * hour * 1000).get('final-copy')?.seconds;

    expect(projected(9 * hour, {}, spans).seconds).toBeCloseTo(hour + stopped.seconds);
    expect(whole({ state: 'verified', passes: [...passes, last] })).toBeCloseTo(whole({}) ?? 0);
  });

  it('make no difference where every pass moves everything', () => {
    expect(projected(8 * hour, { isWhole: true })).toEqual(now);
  });

  it('count where they grow most, for who looks at a migration in which nothing happens', () => {
    const other: TransferStatus = { ...copied, id: 'other', source: 'old9:/data' };
    const quiet = passes.map((pass) => ({ ...pass, literalBytes: 0 }));
    const growth = (...transfers: TransferStatus[]): number =>
      growthBetween(transfers, startTime + hour * 1000, startTime + 3 * hour * 1000).seconds;

    expect(growth(copied)).toBeCloseTo((2 * hour * 5) / 100);
    expect(growth(copied, other, { ...other, passes: quiet })).toBeCloseTo(growth(copied));
    expect(growth(other, { ...other, id: 'second' })).toBeCloseTo(2 * growth(copied));
    expect(growth()).toBe(0);
  });
});

function passOf(totalBytes: number): TransferStatus['passes'][number] {
  return {
    ...{ pass: 1, mode: 'live', startedAt: start, seconds: 1, files: 1, filesTransferred: 1, deleted: 0 },
    ...{ totalBytes, literalBytes: 1, matchedBytes: 0, bytesPerSecond: 1, vanished: false },
  };
}

describe('the projected downtime', () => {
  const total = [...expectedSeconds(plan, []).values()].reduce((sum, { seconds }) => sum + seconds, 0);

  it('is the sum of the window before it opens', () => {
    const { seconds, errorSeconds } = projectDowntime(plan, fresh().phases, [], [], startTime);

    expect(seconds).toBeCloseTo(total);
    expect(errorSeconds).toBeGreaterThan(0);
  });

  it('is what was spent, and certain, once it is over', () => {
    const spans = [{ startedAt: start, endedAt: at(77) }];

    expect(projectDowntime(plan, fresh().phases, [], spans, startTime + 1e9)).toEqual({ seconds: 77, errorSeconds: 0 });
  });

  it('counts what is spent, what the running phase still needs, and what is to come', () => {
    const state = withPhase(withPhase(fresh(), 'stop-apps', { state: 'done' }), 'add-nodes', {
      state: 'running',
      startedAt: at(60),
    });
    const now = startTime + 100_000;
    const { seconds } = projectDowntime(plan, state.phases, [], [{ startedAt: start }], now);

    // stop-apps (120 s) is behind, 40 s of add-nodes are over, 100 s were spent.
    expect(seconds).toBeCloseTo(100 + total - 120 - 40);
  });

  it('counts on the way back what is still to be undone, and never what will not come', () => {
    const spans = [{ startedAt: start }];
    const now = startTime + 100_000;
    const project = (undo: PhaseName[], down = spans): number =>
      projectDowntime(plan, fresh().phases, [], down, now, undo).seconds;

    // stop-apps 120 s, uninstall 120 s; the last copies are not undone.
    expect(project(['stop-apps', 'uninstall', 'final-copy'])).toBeCloseTo(100 + 240);
    expect(project(['stop-apps'])).toBeCloseTo(100 + 120);
    expect(project([])).toBeCloseTo(100);
    // Nothing was stopped yet: going back costs nobody anything.
    expect(project(['backup'], [])).toBe(0);
  });

  it('is never less than what was spent, at any moment of any phase', () => {
    const names = plan.components.length > 0 ? fresh().phases.map(({ name }) => name) : [];
    fc.assert(
      fc.property(fc.nat(names.length - 1), fc.integer({ min: 0, max: 100_000 }), (index, elapsed) => {
        const state = names.reduce(
          (before, name, position) =>
            position < index
              ? withPhase(before, name, { state: 'done' })
              : position === index
                ? withPhase(before, name, { state: 'running', startedAt: start })
                : before,
          fresh(),
        );
        const { seconds, errorSeconds } = projectDowntime(
          plan,
          state.phases,
          [],
          [{ startedAt: start }],
          startTime + elapsed * 1000,
        );
        expect(seconds).toBeGreaterThanOrEqual(elapsed);
        expect(errorSeconds).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
