import type { Client } from '@temporalio/client';
import { defaultPayloadConverter, TypedSearchAttributes } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import type { MigrationHandle } from '../../../src/client/migrations.ts';
import { describeMigration, readStatus } from '../../../src/client/migrations.ts';

/** A server without any worker: it holds results, and answers no query. */
const client = { withDeadline: (_: number, work: () => unknown) => work() } as unknown as Client;
const handle = {
  result: () => Promise.resolve({ outcome: 'rolled-back', status: { state: 'rolled-back' } }),
  query: () => Promise.reject(Object.assign(new Error('no poller'), { code: 9, details: '', metadata: {} })),
} as unknown as MigrationHandle;

/** A migration that runs, with the last events of its history, the latest first. */
function running(attempt: number, events: readonly object[]): MigrationHandle {
  return {
    workflowId: 'migrate-a',
    client: {
      options: {
        namespace: 'default',
        loadedDataConverter: { payloadCodecs: [], payloadConverter: defaultPayloadConverter },
      },
      workflowService: {
        getWorkflowExecutionHistoryReverse: () => Promise.resolve({ history: { events } }),
      },
    },
    describe: () =>
      Promise.resolve({
        ...{ workflowId: 'migrate-a', runId: 'r', status: { name: 'RUNNING' } },
        ...{ typedSearchAttributes: new TypedSearchAttributes(), raw: { pendingWorkflowTask: { attempt } } },
      }),
  } as unknown as MigrationHandle;
}

describe('a worker that fails at a migration', () => {
  const failed = { workflowTaskFailedEventAttributes: { failure: { message: 'no such phase' } } };
  const completed = { workflowTaskCompletedEventAttributes: {} };

  it.each<[string, number, object[], string | undefined]>([
    ['is told with its reason', 3, [{}, failed, {}, completed], 'no such phase'],
    ['is not told of one that came further since', 2, [completed, failed], undefined],
    ['is not looked for at the first try', 1, [failed], undefined],
  ])('%s', async (_, attempt, events, expected) => {
    expect((await describeMigration(running(attempt, events))).workerFails).toBe(expected);
  });
});

describe('readStatus without a worker', () => {
  it('reads how a completed migration ended', async () => {
    expect(await readStatus(client, handle, 'COMPLETED')).toEqual({ state: 'rolled-back' });
  });

  it.each(['RUNNING', 'TERMINATED'])('knows nothing of one that is %s', async (execution) => {
    expect(await readStatus(client, handle, execution)).toBeUndefined();
  });
});
