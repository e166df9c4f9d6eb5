import { describe, expect, it } from 'vitest';
import { disagreements, judgeCases } from '../../../lab/stand-ins/proton-cli/judge.ts';
import { recorded } from './fixtures.ts';

type File = Parameters<typeof judgeCases>[0];

describe('judging a file of cases', () => {
  it.each(['config-verdicts.json', 'component-verdicts.json'])(
    'agrees with %s',
    (name) => {
      const file = recorded<File>(name);
      const judged = judgeCases(file);
      expect(judged.cases).toHaveLength(file.cases.length);
      expect(disagreements(file, judged)).toEqual([]);
    },
    60_000,
  );

  it('tells where it disagrees', () => {
    const file = recorded<File>('config-verdicts.json');
    const [first] = file.cases;
    const changed = { ...file, cases: [{ ...first!, verdict: 'rejected', message: 'no' }] };
    expect(disagreements(changed, judgeCases(changed))).toEqual(['base-fresh: verdict, message']);
  });

  it('refuses what it does not know', () => {
    const [configuration] = recorded<File>('config-verdicts.json').cases;
    const [component] = recorded<File>('component-verdicts.json').cases;
    expect(() => judgeCases({ cases: [configuration!, component!] })).toThrow('in one file');
    expect(() => judgeCases({ cases: [configuration!], documents: {} })).toThrow('no document base');
  });
});
