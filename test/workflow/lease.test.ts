import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLeaseActivities } from '../../src/activities/cluster-lease.ts';
import { resumeSignal, taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import { LeaseStore } from '../unit/activities/lease-store.ts';
import type { Handle, Harness } from './harness.ts';
import { startHarness, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

/* The activities as they are, on a real server; only the API server is played. */

const store = new LeaseStore();
let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development', { activities: createLeaseActivities({ api: store.api }) });
});
afterAll(() => harness.stop());

describe('whether another migration is still at work', () => {
  const start = (workflowId: string, { plan }: World): Promise<Handle> =>
    harness.environment.client.workflow.start<typeof migrateNodes>('migrateNodes', {
      workflowId,
      taskQueue,
      args: [plan],
    });

  it('is known by Temporal itself: one that was terminated is passed over, one of another server is not', async () => {
    const world = createWorld(planOf('asked'));
    const first = await start('migrate-asked', world);
    await untilGate(first, 'open-downtime');
    const second = await start('migrate-asked/second', world);
    const atWork = (await untilBlocked(second)).blocked;
    await first.terminate('lost its mind');
    await second.signal(resumeSignal, { by: 'li' });
    await untilGate(second, 'open-downtime');
    const holder = store.lease?.spec?.holderIdentity;
    await second.terminate();
    store.lease!.metadata.annotations!['ferry.migration/first-run'] = '00000000-0000-4000-8000-000000000000';
    const third = await start('migrate-asked', world);
    const unknown = (await untilBlocked(third)).blocked;

    expect(atWork?.cause).toMatch(/^workflow migrate-asked of Temporal namespace default, since \S+, is at work$/);
    expect(atWork?.next).toContain('ferry status migrate-asked;');
    expect(holder).toBe('migrate-asked/second');
    expect(unknown?.cause).toContain('is not known to this Temporal server');
    expect(unknown?.next).toContain('kubectl -n proton delete lease ferry-migration');
    await third.terminate();
  });
});
