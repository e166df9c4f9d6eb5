import type { Client } from '@temporalio/client';
import { defaultPayloadConverter, TypedSearchAttributes, WorkflowNotFoundError } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import type { MigrationHandle } from '../../../src/client/migrations.ts';
import { clockAt, describeMigration, findMigration, readStatus } from '../../../src/client/migrations.ts';
import type { MigrationStatus } from '../../../src/workflows/messages.ts';

/** A server without any worker: it holds results, and answers no query. */
const client = { withDeadline: (_: number, work: () => unknown) => work() } as unknown as Client;
const handle = {
  result: () => Promise.resolve({ outcome: 'rolled-back', status: { state: 'rolled-back' } }),
  query: () => Promise.reject(Object.assign(new Error('no poller'), { code: 9, details: '', metadata: {} })),
} as unknown as MigrationHandle;

/** A migration that runs, with the last events of its history, the latest first. */
function running(attempt: number, events: readonly object[], pendingActivities: object[] = []): MigrationHandle {
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
        ...{
          typedSearchAttributes: new TypedSearchAttributes(),
          raw: { pendingWorkflowTask: { attempt }, pendingActivities },
        },
      }),
  } as unknown as MigrationHandle;
}

describe('a migration that is named', () => {
  /** A server with these workflows, by id. */
  function serverWith(types: Readonly<Record<string, string>>): Client {
    const getHandle = (workflowId: string): object => ({
      workflowId,
      describe: () =>
        types[workflowId] === undefined
          ? Promise.reject(new WorkflowNotFoundError('gone', workflowId, undefined))
          : Promise.resolve({ type: types[workflowId] }),
    });
    const list = (): Iterable<object> => [];
    return { options: { namespace: 'default' }, workflow: { getHandle, list } } as unknown as Client;
  }
  const found = async (named: string, ids: Record<string, string>): Promise<string> =>
    (await findMigration(serverWith(ids), named)).workflowId;
  const type = 'migrateNodes';

  it.each<[string, string, Record<string, string>, string]>([
    ['by its cluster', 'a', { 'migrate-a': type }, 'migrate-a'],
    ['by the usual id', 'migrate-a', { 'migrate-a': type }, 'migrate-a'],
    ['by any id', '0198-7c1e', { '0198-7c1e': type }, '0198-7c1e'],
    ['by a cluster whose name looks like an id', 'migrate-a', { 'migrate-migrate-a': type }, 'migrate-migrate-a'],
    ['by its exact id, whatever the clusters are called', 'a', { a: type, 'migrate-a': type }, 'a'],
    ['by its exact id, which a cluster may have as its name', 'migrate-a', twoNamedAlike(), 'migrate-a'],
    ['beside a workflow of another kind', 'a', { a: 'replicateDirectory', 'migrate-a': type }, 'migrate-a'],
  ])('is found %s', async (_, named, ids, expected) => {
    expect(await found(named, ids)).toBe(expected);
  });

  it.each<[string, Record<string, string>, string]>([
    ['a', {}, 'there is no migration a or migrate-a in namespace default; none runs'],
    ['a', { a: 'replicateDirectory' }, 'there is no migration a or migrate-a'],
    ['', {}, 'there is no migration migrate- in namespace'],
  ])('is not found as "%s" in %j', async (named, ids, message) => {
    await expect(found(named, ids)).rejects.toThrow(message);
  });

  function twoNamedAlike(): Record<string, string> {
    return { 'migrate-a': type, 'migrate-migrate-a': type };
  }
});

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

describe('the clock of the downtime', () => {
  const startedAt = '2026-11-24T03:00:00.000Z';
  const downtime = {
    ...{ budgetSeconds: 3600, projectedSeconds: 900, projectedErrorSeconds: 60, spentSeconds: 100 },
    ...{ startedAt, asOf: '2026-11-24T03:01:40.000Z' },
  };
  const later = (change: Partial<MigrationStatus['downtime']>, seconds: number): MigrationStatus['downtime'] =>
    clockAt({ downtime: { ...downtime, ...change } } as MigrationStatus, Date.parse(downtime.asOf) + seconds * 1000)
      .downtime;

  it('runs on between two things that happen, and the projection is never less', () => {
    expect(later({}, 200)).toMatchObject({ spentSeconds: 300, projectedSeconds: 900 });
    expect(later({}, 1000)).toMatchObject({ spentSeconds: 1100, projectedSeconds: 1100 });
    // A clock that is a little behind that of the server.
    expect(later({}, -5)).toMatchObject({ spentSeconds: 100 });
  });

  it('stands before and after', () => {
    expect(later({ endedAt: downtime.asOf }, 200).spentSeconds).toBe(100);
    expect(clockAt({ downtime: { spentSeconds: 0 } } as MigrationStatus, 0).downtime.spentSeconds).toBe(0);
  });
});

describe('the projection before the downtime', () => {
  const passOf = (startedAt: string, literalBytes: number): object => ({
    ...{ pass: 1, mode: 'live', startedAt, seconds: 10, totalBytes: 1e12, literalBytes, matchedBytes: 0 },
  });
  const transfer = {
    source: 'old1:/data',
    passes: [passOf('2026-11-23T21:50:00.000Z', 1e9), passOf('2026-11-23T22:00:00.000Z', 3e9)],
  };
  const status = {
    downtime: { projectedSeconds: 900, projectedErrorSeconds: 60, spentSeconds: 0, asOf: '2026-11-23T22:10:00.000Z' },
    transfers: [transfer],
  } as unknown as MigrationStatus;
  const morning = Date.parse('2026-11-24T06:00:00.000Z');

  it('grows with the age of copies that nothing freshens', () => {
    const { downtime } = clockAt(status, morning);

    // 5 MB/s for 7 h 50 min at the 300 MB/s of the last pass.
    expect(downtime.projectedSeconds).toBeCloseTo(900 + (28_200 * 5) / 300);
    expect(downtime.projectedErrorSeconds).toBeGreaterThan(60);
    expect(downtime.asOf).toBe('2026-11-24T06:00:00.000Z');
    expect(clockAt(clockAt(status, morning), morning).downtime).toEqual(downtime);
  });

  it('stays where nothing will be stopped any more', () => {
    const back = { ...status, downtime: { ...status.downtime, projectedSeconds: 0 } };

    expect(clockAt(back, morning)).toEqual(back);
  });
});

describe('what is tried again', () => {
  it('is told with try and cause; a first try is not', async () => {
    const pending = [
      { activityType: { name: 'applyConfig' }, attempt: 3, lastFailure: { message: 'helm timed out' } },
      { activityType: { name: 'drainNode' }, attempt: 1 },
    ];

    expect((await describeMigration(running(1, [], pending))).retries).toEqual([
      { activity: 'applyConfig', attempt: 3, failure: 'helm timed out' },
    ]);
    expect((await describeMigration(running(1, []))).retries).toBeUndefined();
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
