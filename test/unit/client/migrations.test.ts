import type { Client } from '@temporalio/client';
import { describe, expect, it } from 'vitest';
import type { MigrationHandle } from '../../../src/client/migrations.ts';
import { readStatus } from '../../../src/client/migrations.ts';

/** A server without any worker: it holds results, and answers no query. */
const client = { withDeadline: (_: number, work: () => unknown) => work() } as unknown as Client;
const handle = {
  result: () => Promise.resolve({ outcome: 'rolled-back', status: { state: 'rolled-back' } }),
  query: () => Promise.reject(Object.assign(new Error('no poller'), { code: 9, details: '', metadata: {} })),
} as unknown as MigrationHandle;

describe('readStatus without a worker', () => {
  it('reads how a completed migration ended', async () => {
    expect(await readStatus(client, handle, 'COMPLETED')).toEqual({ state: 'rolled-back' });
  });

  it.each(['RUNNING', 'TERMINATED'])('knows nothing of one that is %s', async (execution) => {
    expect(await readStatus(client, handle, execution)).toBeUndefined();
  });
});
