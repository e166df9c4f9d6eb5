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
