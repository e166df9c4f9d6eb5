import { describe, expect, it } from 'vitest';
import { breadcrumbs, createApplicationActivities } from '../../../src/activities/applications.ts';
import type { ApplicationRecord } from '../../../src/activities/contract.ts';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import { ApiError, type KubernetesApi, type KubernetesObject } from '../../../src/activities/kubernetes-api.ts';

const migration = 'demo';
const namespaces = ['shop'];
const root = '/apis/apps/v1/namespaces/shop/deployments';
const jobs = '/apis/batch/v1/namespaces/shop/jobs';

/** A namespace whose objects may vanish between a list and the write that follows, as they do when somebody deletes them. */
function cluster(objects: Record<string, object>): {
  api: KubernetesApi;
  /** Deleted as soon as somebody wants to write it. */
  vanishing: Set<string>;
  refused: Map<string, number>;
  written: string[];
} {
  const live = new Map<string, KubernetesObject>(
    Object.entries(objects).map(([path, object]) => [
      path,
      { metadata: { name: path.split('/').at(-1) ?? '', namespace: 'shop', generation: 1 }, ...object },
    ]),
  );
  const vanishing = new Set<string>();
  const refused = new Map<string, number>();
  const written: string[] = [];
  const api = {
    server: 'https://10.0.0.11:6443',
    request: (method: string, path: string) => {
      if (method !== 'PATCH') return Promise.resolve({});
      if (vanishing.has(path)) live.delete(path);
      const code = refused.get(path) ?? (live.has(path) ? undefined : 404);
      if (code !== undefined) return Promise.reject(new ApiError(code, undefined, `${path} answered ${code}`));
      written.push(path);
      live.delete(path);
      return Promise.resolve({});
    },
    list: (path: string) =>
      Promise.resolve([...live].flatMap(([key, object]) => (key.startsWith(`${path}/`) ? [object] : []))),
  } as unknown as KubernetesApi;
  return { api, vanishing, refused, written };
}

const record: ApplicationRecord = {
  takenAt: '2026-01-01T00:00:00Z',
  workloads: ['here', 'gone'].map((name) => ({ kind: 'Deployment', namespace: 'shop', name, replicas: 1 })),
};
const marks = (name: string): object => ({
  metadata: { name, namespace: 'shop', annotations: { [breadcrumbs.migration]: migration } },
});
const activitiesOf = (api: KubernetesApi): ReturnType<typeof createApplicationActivities> =>
  createApplicationActivities({ api, deadlines: { ...defaultDeadlines, cronJobsFinish: 0 } });

describe('an object that is deleted between list and write', () => {
  it('needs no stop', async () => {
    const { api, vanishing, written } = cluster({
      [`${root}/here`]: { spec: { replicas: 1 } },
      [`${root}/gone`]: { spec: { replicas: 1 } },
    });
    vanishing.add(`${root}/gone`);

    const evidence = await activitiesOf(api).stopApplications({ migration, namespaces, record });

    expect(written).toEqual([`${root}/here`]);
    expect(evidence.proof).toContain('1 workloads stopped');
  });

  it('needs no suspension as a Job that has just ended', async () => {
    const owner = { kind: 'CronJob', name: 'nightly', uid: '1', controller: true };
    const job = (name: string): object => ({
      metadata: { name, namespace: 'shop', ownerReferences: [owner] },
      spec: {},
    });
    const { api, vanishing, written } = cluster({ [`${jobs}/one`]: job('one'), [`${jobs}/two`]: job('two') });
    vanishing.add(`${jobs}/one`);

    const evidence = await activitiesOf(api).stopApplications({
      migration,
      namespaces,
      record: { ...record, workloads: [] },
    });

    expect(written).toEqual([`${jobs}/two`]);
    expect(evidence.proof).toContain('1 running Jobs suspended');
  });

  it('is told as deleted when the applications start', async () => {
    const { api, vanishing, written } = cluster({
      [`${root}/here`]: { ...marks('here'), spec: { replicas: 0 } },
      [`${root}/gone`]: { ...marks('gone'), spec: { replicas: 0 } },
      [`${jobs}/ended`]: { ...marks('ended'), spec: { suspend: true } },
    });
    vanishing.add(`${root}/gone`).add(`${jobs}/ended`);

    const evidence = await activitiesOf(api).startApplications({ migration, record });

    expect(written).toEqual([`${root}/here`]);
    expect(evidence.proof).toContain('deleted by somebody since: Deployment shop/gone');
  });

  it('carries no breadcrumbs any more', async () => {
    const { api, vanishing } = cluster({ [`${root}/gone`]: { ...marks('gone'), spec: { replicas: 1 } } });
    vanishing.add(`${root}/gone`);

    const evidence = await activitiesOf(api).clearBreadcrumbs({ migration, namespaces });

    expect(evidence.changed).toBe(false);
  });

  it.each([
    [403, 'NeedsHuman'],
    [500, 'Transient'],
    [422, 'Permanent'],
  ])('is the only refusal that is passed over: %i stays %s', async (code, type) => {
    const { api, refused } = cluster({ [`${root}/here`]: { spec: { replicas: 1 } } });
    refused.set(`${root}/here`, code);

    await expect(activitiesOf(api).stopApplications({ migration, namespaces, record })).rejects.toMatchObject({ type });
  });
});

interface Workload {
  metadata: { name: string; namespace: string; generation: number; annotations: Record<string, string | undefined> };
  spec: { replicas: number };
  status: { observedGeneration: number; replicas: number; readyReplicas: number };
}
interface Patch {
  metadata?: { annotations: Record<string, string | null> };
  spec?: { replicas: number };
}

/** Deployments that do what they are told, one of which never becomes ready; the API fails at one time it is to take breadcrumbs away. */
function running(failingDrop?: number): { api: KubernetesApi; marks: (name: string) => string[] } {
  const live = new Map(
    ['broken', 'sound'].map((name): [string, Workload] => [
      name,
      {
        metadata: { name, namespace: 'shop', generation: 1, annotations: {} },
        spec: { replicas: 1 },
        status: { observedGeneration: 1, replicas: 1, readyReplicas: name === 'broken' ? 0 : 1 },
      },
    ]),
  );
  let drops = 0;
  const patch = (path: string, { metadata: { annotations } = { annotations: {} }, spec }: Patch): void => {
    const object = live.get(path.split('/').at(-1) ?? '');
    if (object === undefined) throw new ApiError(404, undefined, path);
    if (spec === undefined) drops += 1;
    if (spec === undefined && drops === failingDrop) throw new ApiError(503, undefined, 'etcd has no leader');
    for (const [key, value] of Object.entries(annotations)) object.metadata.annotations[key] = value ?? undefined;
    if (spec === undefined) return;
    const { replicas } = spec;
    object.spec = { replicas };
    object.status = { ...object.status, replicas, readyReplicas: object.metadata.name === 'broken' ? 0 : replicas };
  };
  const api = {
    server: 'https://10.0.0.11:6443',
    request: async (method: string, path: string, options?: { body: Patch }) => {
      if (method === 'PATCH' && options !== undefined) patch(path, options.body);
      return Promise.resolve({});
    },
    list: (path: string) => Promise.resolve(path === root ? structuredClone([...live.values()]) : []),
  } as unknown as KubernetesApi;
  const marks = (name: string): string[] =>
    Object.entries(live.get(name)?.metadata.annotations ?? {}).flatMap(([key, value]) =>
      value === undefined ? [] : [key],
    );
  return { api, marks };
}

describe('a workload that was not ready before', () => {
  const hasty = (api: KubernetesApi): ReturnType<typeof createApplicationActivities> =>
    createApplicationActivities({ api, deadlines: { ...defaultDeadlines, ready: 50 } });
  const proof = 'not ready before the migration either: Deployment shop/broken 0 of 1 ready';

  it('is not waited for when a start is tried again that had begun to take the breadcrumbs away', async () => {
    const { api, marks } = running(2);
    const { recordApplications, stopApplications, startApplications } = hasty(api);
    const recorded = await recordApplications({ migration, namespaces });
    await stopApplications({ migration, namespaces, record: recorded });
    expect(marks('broken')).toContain(breadcrumbs.ready);

    const first = startApplications({ migration, record: recorded });
    await expect(first).rejects.toMatchObject({ type: 'Transient' });
    expect(marks('broken')).toEqual([]);
    const again = await startApplications({ migration, record: recorded });

    expect(again.proof).toContain(proof);
    expect(marks('sound')).toEqual([]);
  });

  it('is known by its breadcrumb where the record is of an older worker', async () => {
    const { api } = running();
    const { stopApplications, startApplications } = hasty(api);
    const older: ApplicationRecord = {
      ...record,
      workloads: ['broken', 'sound'].map((name) => ({ kind: 'Deployment', namespace: 'shop', name, replicas: 1 })),
    };
    await stopApplications({ migration, namespaces, record: older });

    expect((await startApplications({ migration, record: older })).proof).toContain(proof);
  });

  it.each([
    ['as it runs', {}, [3, 'all', 'all']],
    [
      'as it ran, once it is stopped',
      { [breadcrumbs.replicas]: '5', [breadcrumbs.nodeSelector]: '{}', [breadcrumbs.ready]: '2' },
      [2, 2, 2],
    ],
    [
      'wholly, without a mark',
      { [breadcrumbs.replicas]: '5', [breadcrumbs.nodeSelector]: '{}' },
      ['all', 'all', 'all'],
    ],
  ])('is recorded %s', async (_, annotations, ready) => {
    const own = (name: string): object => ({
      metadata: { name, namespace: 'shop', annotations: { [breadcrumbs.migration]: migration, ...annotations } },
    });
    const { api } = cluster({
      [`${root}/web`]: { ...own('web'), spec: { replicas: 5 }, status: { readyReplicas: 3 } },
      [`${root}/asleep`]: { ...own('asleep'), spec: { replicas: 0 } },
      '/apis/apps/v1/namespaces/shop/daemonsets/agent': {
        ...own('agent'),
        spec: {},
        status: { desiredNumberScheduled: 4, numberReady: 4 },
      },
    });

    const { workloads } = await hasty(api).recordApplications({ migration, namespaces });

    expect(workloads.map((workload) => workload.ready)).toEqual(ready);
  });
});
