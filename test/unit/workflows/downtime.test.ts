import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PlanInput } from '../../../src/plan/plan.ts';
import { begin, end, expectedSeconds, isDown, projectDowntime, spentSeconds } from '../../../src/workflows/downtime.ts';
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

    expect(expectedSeconds(plan, all).get('final-copy')?.seconds).toBe(Math.max(onOld1, onOld2) * 10);
    expect(expectedSeconds(plan, []).get('final-copy')?.seconds).toBeGreaterThan(5);
    expect(expectedSeconds(plan, [...all.slice(1), measured(ids[0]!, 900)]).get('final-copy')?.seconds).toBeGreaterThan(
      900,
    );
  });
});

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
