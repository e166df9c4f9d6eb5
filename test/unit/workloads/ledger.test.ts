import { describe, expect, it } from 'vitest';
import {
  describeVerdict,
  judgeLedger,
  ledgerIsComplete,
  parseLedger,
  type Holding,
} from '../../../lab/workloads/ledger.ts';

function holding(
  component: string,
  ordinal: number,
  records: Record<string, string>,
  more: Partial<Holding> = {},
): Holding {
  return { component, ordinal, records: new Map(Object.entries(records)), ...more };
}

const kafka = (key: string, ordinal = 0): string =>
  JSON.stringify({ component: 'kafka', ordinal, key, sum: `sum of ${key}` });

describe('parseLedger', () => {
  it('leaves out a last line that was cut off: it was never acknowledged to the client', () => {
    expect(parseLedger(`${kafka('a')}\n${kafka('b').slice(0, 20)}`)).toHaveLength(1);
  });

  it('refuses a damaged line in the middle', () => {
    expect(() => parseLedger(`${kafka('a')}\n{"component":1}\n${kafka('b')}\n`)).toThrow();
  });
});

describe('judgeLedger', () => {
  const entries = parseLedger(
    [
      kafka('a'),
      kafka('b'),
      kafka('a'),
      kafka('c', 1),
      '{"component":"kafka","ordinal":0,"tree":"t0","entries":3}',
      '',
    ].join('\n'),
  );
  const good = [
    holding('kafka', 0, { a: 'sum of a', b: 'sum of b', unacknowledged: 'x' }, { tree: 't0' }),
    holding('kafka', 1, { c: 'sum of c' }),
  ];

  it('finds all, counting a record once however often it was reported', () => {
    const verdict = judgeLedger(entries, good);
    expect(verdict).toEqual({
      acknowledged: 3,
      found: 3,
      missing: [],
      missingCount: 0,
      trees: 1,
      differentTrees: [],
      unreadable: [],
    });
    expect(ledgerIsComplete(verdict)).toBe(true);
  });

  it.each([
    [
      'a record that is not there',
      [holding('kafka', 0, { a: 'sum of a' }, { tree: 't0' }), ...good.slice(1)],
      'kafka-0/b',
    ],
    [
      'a record with another value',
      [holding('kafka', 0, { a: 'sum of a', b: 'other' }, { tree: 't0' }), ...good.slice(1)],
      'kafka-0/b (another value)',
    ],
    [
      'a record that came back on another ordinal',
      [
        holding('kafka', 0, { ...Object.fromEntries(good.flatMap((one) => [...one.records])) }, { tree: 't0' }),
        holding('kafka', 1, {}),
      ],
      'kafka-1/c',
    ],
    ['an ordinal that is not there', good.slice(0, 1), 'kafka-1/c'],
  ])('names %s', (_, holdings, missing) => {
    const verdict = judgeLedger(entries, holdings);
    expect(verdict.missing).toEqual([missing]);
    expect(verdict.found).toBe(2);
    expect(ledgerIsComplete(verdict)).toBe(false);
    expect(describeVerdict(verdict)).toContain(missing);
  });

  it('names an ordinal that cannot be read, with the reason', () => {
    const verdict = judgeLedger(entries, [good[0]!, holding('kafka', 1, {}, { error: 'connection refused' })]);
    expect(verdict.unreadable).toEqual(['kafka-1: connection refused']);
    expect(ledgerIsComplete(verdict)).toBe(false);
  });

  it.each([
    ['another digest', 't1'],
    ['no answer', undefined],
  ])('a seeded folder with %s differs', (_, tree) => {
    const holdings = [
      holding('kafka', 0, Object.fromEntries(good[0]!.records), tree === undefined ? {} : { tree }),
      good[1]!,
    ];
    const verdict = judgeLedger(entries, holdings);
    expect(verdict.differentTrees).toEqual(['kafka-0']);
    expect(ledgerIsComplete(verdict)).toBe(false);
  });

  it('an empty ledger proves nothing', () => {
    const verdict = judgeLedger([], good);
    expect(ledgerIsComplete(verdict)).toBe(false);
    expect(describeVerdict(verdict)).toContain('proves nothing');
  });
});
