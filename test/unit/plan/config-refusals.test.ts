import { describe, expect, it } from 'vitest';
import { editConfig } from '../../../src/plan/config-edit.ts';
import { refusals } from '../../../src/plan/config-refusals.ts';
import { recorded, recordedConfig, sampleComponents, samplePlan } from './samples.ts';

interface Case {
  new: string;
  verdict: string;
  stage: string;
  message: string;
}

/** What the rules here stand for, in the words of the platform. */
const ours = /nodes\[\d+\]\.ip[46]: Required value|chrony\.server: Unsupported value/;

describe('the recorded verdicts', () => {
  const { cases } = recorded('config-verdicts.json') as { cases: Case[] };
  const decided = cases.filter(({ stage }) => stage === 'validate' || stage === 'update');

  it.each(decided.filter(({ message }) => ours.test(message)))('$new is refused', ({ new: name }) => {
    expect(refusals(recordedConfig(name)).map(({ cause }) => cause)).not.toEqual([]);
  });

  it.each(decided.filter(({ verdict }) => verdict === 'accepted'))('$new is taken', ({ new: name }) => {
    expect(refusals(recordedConfig(name))).toEqual([]);
  });
});

describe('a document that is refused', () => {
  it('names the nodes without an address of a family', () => {
    const edited = editConfig(recordedConfig('dual-stack'), 'add-nodes', samplePlan(), sampleComponents());

    expect(refusals(recordedConfig('dual-stack'))).toEqual([]);
    expect(refusals(edited.text)).toEqual([
      {
        cause: 'node-4, node-5, node-6 would have no ip6, and cs.ipFamilies demands an address of IPv6 of every node',
        next: expect.stringContaining('with both addresses') as unknown,
      },
    ]);
  });

  it('names the time server that is no master', () => {
    expect(refusals(recordedConfig('chrony-worker-server'))).toEqual([
      {
        cause: 'chrony.server would be node-4, which is not in cs.master (node-1, node-2, node-3)',
        next: expect.stringContaining('controlPlane in nodes.add') as unknown,
      },
    ]);
  });
});
