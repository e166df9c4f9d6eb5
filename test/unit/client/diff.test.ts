import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { describeStages, stageDiffs } from '../../../src/client/diff.ts';
import { componentTable } from '../../../src/plan/components.ts';
import type { Plan } from '../../../src/plan/plan.ts';
import { recordedConfig, samplePlan } from '../plan/samples.ts';

function recordsOf(plan: Plan): Record<string, string> {
  return Object.fromEntries(
    plan.components.flatMap(({ kind, dataPath, replicas }) => {
      const { persist } = componentTable[kind];
      if (persist === undefined) return [];
      const params = { hosts: replicas.map(({ from }) => from), data_path: dataPath, admin_passwd: 'hunter2' };
      return [[persist.key, stringify({ name: persist.key, params })]];
    }),
  );
}

describe('stageDiffs', () => {
  const plan = samplePlan();
  const live = { document: recordedConfig('base'), records: recordsOf(plan) };
  const stages = stageDiffs(plan, live);
  const diffOf = (wanted: string): string => stages.find(({ stage }) => stage === wanted)?.diff ?? '';

  it('has the stages in the order of the migration', () => {
    expect(stages.map(({ stage }) => stage)).toEqual(['add-nodes', 'edit-secrets', 'reinstall', 'remove-nodes']);
  });

  it('adds nodes, moves hosts and removes nodes, each in its stage', () => {
    expect(diffOf('add-nodes')).toMatch(/^\+.*node-4/m);
    expect(diffOf('edit-secrets')).toContain('persist-component-manage-components/');
    expect(diffOf('edit-secrets')).toMatch(/^\+.*node-4/m);
    expect(diffOf('reinstall')).toBe('');
    expect(diffOf('remove-nodes')).toMatch(/^-.*node-1/m);
  });

  it('shows no secret', () => {
    const text = stripVTControlCharacters(describeStages(stages));

    expect(text).not.toContain('hunter2');
    expect(text).toContain('== edit-secrets');
  });

  it('says that nothing was changed when the documents are other ones', () => {
    const other = { ...live, document: 'nodes: [{name: else, ip4: 10.0.0.9}]\n' };

    expect(() => stageDiffs(plan, other)).toThrow(/not as the plan expects[\s\S]*nothing was changed/);
  });
});
