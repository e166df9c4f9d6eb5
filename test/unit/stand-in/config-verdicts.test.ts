import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { clusterConfiguration } from '../../../lab/workloads/cluster-config.ts';
import { documentOf, dumpConfig, judgeConfig } from '../../../lab/stand-ins/proton-cli/rules/config.ts';
import { recorded } from './fixtures.ts';

interface ConfigCase {
  name: string;
  old: string | null;
  new: string;
  verdict: string;
  stage: string;
  message: string;
  exit_code: number | null;
  old_error?: string;
  completed?: string;
}

const { cases, documents } = recorded<{ cases: ConfigCase[]; documents: Record<string, string> }>(
  'config-verdicts.json',
);

function document(name: string): string {
  const found = documents[name];
  if (found === undefined) throw new Error(`no document ${name}`);
  return found;
}

describe('verdicts on configurations', () => {
  it('are all there', () => {
    expect(cases).toHaveLength(312);
  });

  it.each(cases)('$name', (given) => {
    const old = given.old === null ? undefined : document(given.old);
    const verdict = judgeConfig({ old, new: document(given.new) });
    expect(verdict).toMatchObject({ verdict: given.verdict, stage: given.stage, exitCode: given.exit_code });
    expect(verdict.oldError !== undefined).toBe(given.old_error !== undefined && given.old_error !== '');
    // texts of stage parse come from libraries
    if (given.stage !== 'parse') expect(verdict.message ?? '').toBe(given.message);
    if (given.completed !== undefined) {
      const wanted = document(given.completed);
      expect(documentOf(verdict.completed ?? {})).toEqual(parse(wanted, { version: '1.1' }));
      expect(dumpConfig(verdict.completed ?? {})).toBe(wanted);
    }
  });
});

/** What an unquoted scalar becomes where a text is expected. */
const scalars: [written: string, read: string][] = [
  ['0123', '83'],
  ['0o17', '15'],
  ['0x1f', '31'],
  ['0b101', '5'],
  ['08', '8'],
  ['1_000', '1000'],
  ['1e3', '1000'],
  ['1e6', '1e+06'],
  ['1.10', '1.1'],
  ['.5', '0.5'],
  ['+5', '5'],
  ['-0', '0'],
  ['yes', 'true'],
  ['y', 'true'],
  ['true', 'true'],
  ['off', 'false'],
  ['2020-01-01', '2020-01-01'],
  ['1:20', '1:20'],
  ['12:30:45', '12:30:45'],
  ['123456', '123456'],
  ['12345678901234567890', '12345678901234567890'],
  ['1e400', '1e400'],
  ["'0123'", '0123'],
  ['"yes"', 'yes'],
  ['!!str 0123', '0123'],
];

describe('scalars where a text is expected', () => {
  it.each(scalars)('%s reads as %s', (written, read) => {
    const base = document('base').replace('admin_passwd: invented-2', `admin_passwd: ${written}`);
    const { completed } = judgeConfig({ old: undefined, new: base });
    expect(completed).toMatchObject({ proton_mongodb: { admin_passwd: read } });
  });

  it.each(['~', 'null', 'Null', ''])('%j reads as nothing', (written) => {
    const base = document('base').replace('admin_passwd: invented-2', `admin_passwd: ${written}`);
    const { completed } = judgeConfig({ old: undefined, new: base });
    expect(completed).toMatchObject({
      proton_mongodb: expect.not.objectContaining({ admin_passwd: expect.anything() as unknown }) as unknown,
    });
  });
});

describe("the lab's own configuration", () => {
  const machines = [1, 2, 3].map((index) => ({ name: `old${index}`, address: `10.77.0.1${index}` }));
  it.each(['small', 'full'] as const)('of profile %s is accepted, fresh and against itself', (profile) => {
    const text = clusterConfiguration(machines, profile);
    expect(judgeConfig({ old: undefined, new: text })).toMatchObject({ verdict: 'accepted', stage: 'validate' });
    expect(judgeConfig({ old: text, new: text })).toMatchObject({ verdict: 'accepted', stage: 'update' });
  });
});
