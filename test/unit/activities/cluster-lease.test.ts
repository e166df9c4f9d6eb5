import { beforeEach, describe, expect, it } from 'vitest';
import { createLeaseActivities, leaseName } from '../../../src/activities/cluster-lease.ts';
import type { Holder } from '../../../src/activities/contract.ts';
import { LeaseStore } from './lease-store.ts';

const configNamespace = 'proton';
const holder = (workflowId: string, firstRunId = `run-of-${workflowId}`): Holder => ({
  workflowId,
  namespace: 'default',
  firstRunId,
});
const first = holder('migrate-prod');
const second = holder('migrate-production');

let store: LeaseStore;
let fate: 'at-work' | 'ended' | 'unknown';
let asked: Holder[];
beforeEach(() => {
  store = new LeaseStore();
  fate = 'at-work';
  asked = [];
});

function activities(): ReturnType<typeof createLeaseActivities> {
  return createLeaseActivities({
    api: store.api,
    fateOf: (other) => {
      asked.push(other);
      return Promise.resolve(fate);
    },
  });
}

const hold = (of: Holder): Promise<{ changed: boolean }> => activities().holdCluster({ configNamespace, holder: of });
const letGo = (of: Holder): Promise<{ changed: boolean }> => activities().letClusterGo({ configNamespace, holder: of });

describe('the mark of a migration in the cluster', () => {
  it('is a Lease that people can read, set once and taken away by its own', async () => {
    const taken = await hold(first);
    const again = await hold(first);
    const named = store.lease;
    const gone = await letGo(first);

    expect([taken.changed, again.changed, gone.changed]).toEqual([true, false, true]);
    expect(named).toMatchObject({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: leaseName, namespace: 'proton' },
      spec: { holderIdentity: 'migrate-prod', acquireTime: expect.stringMatching(/^[\dT:-]+\.\d{6}Z$/) as string },
    });
    expect(store.lease).toBeUndefined();
    expect((await letGo(first)).changed).toBe(false);
  });

  it.each([
    [
      'at-work',
      /migrate-prod of Temporal namespace default, since .*, is at work\..*ferry status migrate-prod;.*ferry abort$/,
    ],
    [
      'unknown',
      /cannot say whether it has ended\..*kubectl -n proton delete lease ferry-migration, then: ferry resume/,
    ],
  ] as const)('keeps another one off, and says which and what to do: %s', async (known, message) => {
    fate = known;
    await hold(first);
    const before = store.lease;

    await expect(hold(second)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(message) as string,
    });
    expect(asked).toEqual([first]);
    expect(store.lease).toEqual(before);
    expect((await letGo(second)).changed).toBe(false);
    expect(store.lease).toEqual(before);
  });

  it('keeps off one of the same id that another server runs', async () => {
    fate = 'unknown';
    await hold(first);

    await expect(hold(holder('migrate-prod', 'another-run'))).rejects.toMatchObject({ type: 'NeedsHuman' });
  });

  it('passes from one that ended without letting go', async () => {
    fate = 'ended';
    await hold(first);
    const { changed } = await hold(second);

    expect(changed).toBe(true);
    expect(store.lease?.spec?.holderIdentity).toBe('migrate-production');
    expect((await letGo(first)).changed).toBe(false);
    expect((await letGo(second)).changed).toBe(true);
  });

  it.each([
    ['nobody held it', false],
    ['an ended one held it', true],
  ])('goes to one of two that want it at the same moment: %s', async (_when, wasHeld) => {
    fate = 'ended';
    if (wasHeld) await hold(holder('migrate-earlier'));
    store.meanwhile = () => {
      store.version += 1;
      store.lease = {
        metadata: {
          name: leaseName,
          resourceVersion: `${store.version}`,
          annotations: { 'ferry.migration/first-run': first.firstRunId },
        },
        spec: { holderIdentity: first.workflowId },
      };
    };

    await expect(hold(second)).rejects.toMatchObject({ type: 'Transient' });
    fate = 'at-work';
    await expect(hold(second)).rejects.toMatchObject({ type: 'NeedsHuman' });
    expect(store.lease?.spec?.holderIdentity).toBe('migrate-prod');
  });
});
