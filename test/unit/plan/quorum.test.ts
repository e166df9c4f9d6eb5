import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  awaySteps,
  controlSuccessor,
  exchangeOf,
  quorumOf,
  quorumSequence,
  spareOf,
  stepsWithoutSpare,
} from '../../../src/plan/quorum.ts';
import type { Plan } from '../../../src/plan/plan.ts';

describe('quorum', () => {
  it.each([
    [1, 1, 0],
    [2, 2, 0],
    [3, 2, 1],
    [4, 3, 1],
    [5, 3, 2],
    [6, 4, 2],
    [7, 4, 3],
  ])('of %i members %i must answer, %i may be lost', (members, quorum, spare) => {
    expect([quorumOf(members), spareOf(members)]).toEqual([quorum, spare]);
  });
});

const three = { masters: ['a', 'b', 'c'], joining: ['d', 'e', 'f'], leaving: ['a', 'b', 'c'] };

describe('the sequence of an exchange', () => {
  it('adds one at a time, then takes one away at a time', () => {
    expect(quorumSequence(three).map(({ step, members, spare }) => [step, members.join(''), spare])).toEqual([
      ['start', 'abc', 1],
      ['d joins', 'abcd', 1],
      ['e joins', 'abcde', 2],
      ['f joins', 'abcdef', 2],
      ['a leaves', 'bcdef', 2],
      ['b leaves', 'cdef', 1],
      ['c leaves', 'def', 1],
    ]);
    expect(stepsWithoutSpare(three)).toEqual([]);
  });

  it('names every moment in which one more loss stops the API', () => {
    const single = { masters: ['a'], joining: ['d'], leaving: ['a'] };
    expect(stepsWithoutSpare(single).map(({ step }) => step)).toEqual(['start', 'd joins', 'a leaves']);
    const two = { masters: ['a', 'b', 'c'], joining: ['d'], leaving: ['a', 'b'] };
    expect(stepsWithoutSpare(two).map(({ step }) => step)).toEqual(['b leaves']);
  });

  it('never changes more than one member, and ends with those that stay', () => {
    const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'), {
      minLength: 2,
      maxLength: 10,
    });
    fc.assert(
      fc.property(names, fc.nat(), fc.nat(), (all, cut, gone) => {
        const masters = all.slice(0, 1 + (cut % (all.length - 1)));
        const joining = all.slice(masters.length);
        const leaving = masters.slice(0, gone % (masters.length + 1));
        const steps = quorumSequence({ masters, joining, leaving });
        for (const [index, { members, quorum, spare }] of steps.entries()) {
          const before = steps[index - 1]?.members ?? members;
          const changed = [
            ...members.filter((name) => !before.includes(name)),
            ...before.filter((name) => !members.includes(name)),
          ];
          expect(changed.length).toBe(index === 0 ? 0 : 1);
          expect(quorum * 2).toBeGreaterThan(members.length);
          expect(spare).toBe(members.length - quorum);
        }
        expect(steps.at(-1)?.members).toEqual([...masters, ...joining].filter((name) => !leaving.includes(name)));
      }),
    );
  });
});

const node = (name: string, controlPlane = true): Plan['nodes']['add'][number] => ({
  name,
  ip4: '10.0.0.1',
  controlPlane,
});

describe('masters that are away for a while', () => {
  const services = (change: Partial<Plan['hostServices']>): Plan['hostServices'] => ({
    ...{ hosts: ['a', 'd', 'w'], units: ['proton-cr'], restart: 'start' },
    ...change,
  });

  it.each<[string, Plan['hostServices'], string[], [string, number][]]>([
    ['nobody, when the registry alone is started again', services({}), ['d', 'e', 'f'], []],
    [
      'one of six',
      services({ restart: 'reboot' }),
      ['d', 'e', 'f'],
      [
        ['a reboots', 1],
        ['d reboots', 1],
      ],
    ],
    [
      'one of four',
      services({ restart: 'reboot' }),
      ['d'],
      [
        ['a reboots', 0],
        ['d reboots', 0],
      ],
    ],
    ['one of three', services({ restart: 'reboot' }), [], [['a reboots', 0]]],
    [
      'two of six with their kubelet',
      services({ units: ['proton-cr', 'kubelet.service'], restart: 'reboot' }),
      ['d', 'e', 'f'],
      [['host services of a, d are stopped', 0]],
    ],
  ])('are %s', (_who, hostServices, joining, expected) => {
    const steps = awaySteps({
      controlPlane: { etcd: 'stacked', masters: ['a', 'b', 'c'], withoutSpare: 'refuse' },
      nodes: { add: joining.map((name) => node(name)), remove: [] },
      hostServices,
    });

    expect(steps.map(({ step, spare }) => [step, spare])).toEqual(expected);
  });
});

describe('the exchange a plan makes', () => {
  it('counts masters alone', () => {
    const nodes = { add: [node('d'), node('w', false)], remove: ['b', 'x'] };
    expect(
      exchangeOf({ controlPlane: { etcd: 'stacked', masters: ['a', 'b'], withoutSpare: 'refuse' }, nodes }),
    ).toEqual({
      masters: ['a', 'b'],
      joining: ['d'],
      leaving: ['b'],
    });
    expect(exchangeOf({ nodes })).toBeUndefined();
  });

  it.each([
    ['its successor', [node('d'), node('e')], ['a'], 'e'],
    ['the first that joins, when its successor is no master', [node('d'), node('e', false)], ['a'], 'd'],
    ['nobody, when it stays', [node('d'), node('e')], ['b'], undefined],
    ['nobody, when no master joins', [node('e', false)], ['a'], undefined],
  ])('after the control host comes %s', (_who, add, remove, expected) => {
    const mapping = [{ from: 'a', to: 'e' }];
    expect(controlSuccessor({ nodes: { add, remove }, mapping, platform: { controlHost: 'a' } })).toBe(expected);
  });
});
