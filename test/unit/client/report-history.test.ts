import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { readHistory } from '../../../src/client/report-history.ts';

const workflowId = 'migrate-sample';
/** Two chains under one id: a, b; then c, d. */
const chains = [
  ['a', 'b'],
  ['c', 'd'],
];

/** A server that keeps those runs; visibility answers nothing. */
function serverWith(kept: readonly string[]): Client {
  const eventsOf = (runId: string): object[] => {
    const chain = chains.find((candidate) => candidate.includes(runId)) ?? [];
    const index = chain.indexOf(runId);
    const next = chain[index + 1];
    return [
      { workflowExecutionStartedEventAttributes: { continuedExecutionRunId: chain[index - 1] ?? '' } },
      ...(next === undefined ? [] : [{ workflowExecutionContinuedAsNewEventAttributes: { newExecutionRunId: next } }]),
    ];
  };
  const found = <T>(runId: string, answer: T): Promise<T> =>
    kept.includes(runId)
      ? Promise.resolve(answer)
      : Promise.reject(new WorkflowNotFoundError('gone', workflowId, runId));
  const getHandle = (_id: string, runId = 'd'): object => ({
    describe: () => found(runId, { runId }),
    fetchHistory: () => found(runId, { events: eventsOf(runId) }),
  });
  const withDeadline = (): Promise<never> => Promise.reject(new Error('visibility is away'));
  return { workflow: { getHandle }, withDeadline } as unknown as Client;
}

async function runsOf(kept: readonly string[], run?: string): Promise<string[]> {
  const history = await readHistory(serverWith(kept), workflowId, run);
  return history.runs.map(({ runId }) => runId);
}

describe('the history of a migration', () => {
  const all = ['a', 'b', 'c', 'd'];

  it.each([
    [undefined, ['c', 'd']],
    ['a', ['a', 'b']],
    ['b', ['a', 'b']],
    ['c', ['c', 'd']],
  ])('of run %s is that of its chain', async (run, chain) => {
    expect(await runsOf(all, run)).toEqual(chain);
  });

  it('is read without visibility, and without runs that are no longer kept', async () => {
    const history = await readHistory(serverWith(['b', 'c', 'd']), workflowId, 'b');

    expect(history.runs.map(({ runId }) => runId)).toEqual(['b']);
    expect(history.gaps.join()).toContain('run a is no longer kept');
    expect(history).not.toHaveProperty('earlier');
  });

  it('of a run that the server does not keep is refused with its name', async () => {
    await expect(runsOf(['c', 'd'], 'a')).rejects.toThrow('the server keeps no run a of migrate-sample');
  });
});
