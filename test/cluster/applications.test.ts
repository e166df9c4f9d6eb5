import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { breadcrumbs, createApplicationActivities, parkedSelector } from '../../src/activities/applications.ts';
import type { ApplicationRecord } from '../../src/activities/contract.ts';
import { type Deadlines, defaultDeadlines } from '../../src/activities/deadlines.ts';
import { type KubernetesApi, path } from '../../src/activities/kubernetes-api.ts';
import {
  type ControlPlane,
  create,
  deployment,
  namespace,
  podTemplate,
  reportPodsRunning,
  startControlPlane,
  statefulSet,
  until,
} from './api-server.ts';

let plane: ControlPlane;
let api: KubernetesApi;
beforeAll(async () => {
  plane = await startControlPlane();
  api = plane.api;
});
afterAll(async () => {
  await plane.stop();
});

const deadlines: Deadlines = {
  ...defaultDeadlines,
  podsGone: 20_000,
  cronJobsFinish: 1500,
  strays: 3000,
  ready: 20_000,
};
let counter = 0;
let name: string;
beforeEach(async () => {
  counter += 1;
  name = `apps${counter}`;
  await namespace(api, name);
});

interface Live {
  metadata: { annotations?: Record<string, string> };
  spec: {
    replicas?: number;
    suspend?: boolean;
    minReplicas?: number;
    template: { spec: { nodeSelector?: Record<string, string> } };
  };
  status?: { readyReplicas?: number; replicas?: number; desiredNumberScheduled?: number };
}
const get = (groupVersion: string, plural: string, object: string): Promise<Live> =>
  api.request<Live>('GET', path(groupVersion, name, plural, object));

function activities(overrides: Partial<Deadlines> = {}): ReturnType<typeof createApplicationActivities> {
  return createApplicationActivities({ api, deadlines: { ...deadlines, ...overrides } });
}

const job = { spec: { template: podTemplate('job', { restartPolicy: 'Never' }) } };
function cronJob(suspend: boolean): object {
  const spec = { schedule: '0 3 * * *', suspend, jobTemplate: job };
  return { apiVersion: 'batch/v1', kind: 'CronJob', metadata: { name: suspend ? 'asleep' : 'nightly' }, spec };
}

/** Two replicas ready, three in a StatefulSet, one asleep, a DaemonSet with a selector of its own, CronJobs, autoscalers. */
async function application(): Promise<void> {
  const apps = (plural: string): string => path('apps/v1', name, plural);
  await create(api, apps('deployments'), deployment('web', 2));
  await create(api, apps('deployments'), deployment('idle', 0));
  await create(api, apps('statefulsets'), statefulSet('queue', 3));
  await create(api, apps('daemonsets'), {
    metadata: { name: 'agent' },
    spec: {
      selector: { matchLabels: { app: 'agent' } },
      template: podTemplate('agent', { nodeSelector: { disk: 'ssd' } }),
    },
  });
  await create(api, path('batch/v1', name, 'cronjobs'), cronJob(false));
  await create(api, path('batch/v1', name, 'cronjobs'), cronJob(true));
  await create(api, path('autoscaling/v2', name, 'horizontalpodautoscalers'), {
    metadata: { name: 'web' },
    spec: {
      minReplicas: 2,
      maxReplicas: 5,
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
    },
  });
}

async function allReady(): Promise<void> {
  await until('the applications', 30, async () => {
    const web = await get('apps/v1', 'deployments', 'web');
    const queue = await get('apps/v1', 'statefulsets', 'queue');
    return web.status?.readyReplicas === 2 && queue.status?.readyReplicas === 3;
  });
}

const expectedRecord = (): object[] => [
  { kind: 'CronJob', namespace: name, name: 'asleep', suspended: true },
  { kind: 'CronJob', namespace: name, name: 'nightly', suspended: false },
  { kind: 'HorizontalPodAutoscaler', namespace: name, name: 'web', replicas: 2 },
  { kind: 'Deployment', namespace: name, name: 'idle', replicas: 0, ready: 'all' },
  { kind: 'Deployment', namespace: name, name: 'web', replicas: 2, ready: 'all' },
  { kind: 'StatefulSet', namespace: name, name: 'queue', replicas: 3, ready: 'all' },
  { kind: 'DaemonSet', namespace: name, name: 'agent', nodeSelector: { disk: 'ssd' }, ready: 'all' },
];

describe('stopping and starting applications', () => {
  it('stops everything with breadcrumbs and puts all of it back', async () => {
    await application();
    const stopReporting = reportPodsRunning(api, name, () => true);
    await allReady();
    const { recordApplications, stopApplications, startApplications } = activities();

    const record = await recordApplications({ migration: 'demo', namespaces: [name] });
    expect(record.workloads).toEqual(expectedRecord());

    const stopped = await stopApplications({ migration: 'demo', namespaces: [name], record });
    expect(stopped.changed).toBe(true);
    expect(await api.list(path('v1', name, 'pods'))).toEqual([]);
    const web = await get('apps/v1', 'deployments', 'web');
    expect(web.spec.replicas).toBe(0);
    expect(web.metadata.annotations).toMatchObject({ [breadcrumbs.migration]: 'demo', [breadcrumbs.replicas]: '2' });
    expect((await get('apps/v1', 'daemonsets', 'agent')).spec.template.spec.nodeSelector).toEqual({
      disk: 'ssd',
      [parkedSelector]: 'true',
    });
    expect((await get('batch/v1', 'cronjobs', 'nightly')).spec.suspend).toBe(true);

    // Recorded again while stopped (a lost answer, a second try): the breadcrumbs speak, not the zeros.
    expect((await recordApplications({ migration: 'demo', namespaces: [name] })).workloads).toEqual(expectedRecord());
    expect(await stopApplications({ migration: 'demo', namespaces: [name], record })).toMatchObject({ changed: false });

    const started = await startApplications({ migration: 'demo', record });
    expect(started.changed).toBe(true);
    await allReady();
    const back = await get('apps/v1', 'deployments', 'web');
    expect(back.spec.replicas).toBe(2);
    expect(Object.keys(back.metadata.annotations ?? {}).filter((key) => key.startsWith('ferry.'))).toEqual([]);
    expect((await get('apps/v1', 'daemonsets', 'agent')).spec.template.spec.nodeSelector).toEqual({ disk: 'ssd' });
    expect((await get('batch/v1', 'cronjobs', 'nightly')).spec.suspend).toBe(false);
    expect((await get('batch/v1', 'cronjobs', 'asleep')).spec.suspend).toBe(true);
    expect((await get('apps/v1', 'deployments', 'idle')).spec.replicas).toBe(0);
    expect(await startApplications({ migration: 'demo', record })).toMatchObject({ changed: false });
    await stopReporting();
  });

  it('ends running Jobs of CronJobs after their time, and resumes them', async () => {
    await create(api, path('batch/v1', name, 'cronjobs'), cronJob(false));
    const owner = await api.request<{ metadata: { uid: string } }>(
      'GET',
      path('batch/v1', name, 'cronjobs', 'nightly'),
    );
    const reference = {
      apiVersion: 'batch/v1',
      kind: 'CronJob',
      name: 'nightly',
      uid: owner.metadata.uid,
      controller: true,
    };
    await create(api, path('batch/v1', name, 'jobs'), {
      metadata: { name: 'nightly-1', ownerReferences: [reference] },
      spec: job.spec,
    });
    await until('its pod', 20, async () => (await api.list(path('v1', name, 'pods'))).length === 1);
    const { recordApplications, stopApplications, startApplications } = activities();
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });

    const stopped = await stopApplications({ migration: 'demo', namespaces: [name], record });

    expect(stopped.proof).toContain('1 running Jobs suspended');
    expect(await api.list(path('v1', name, 'pods'))).toEqual([]);
    await startApplications({ migration: 'demo', record });
    expect((await get('batch/v1', 'jobs', 'nightly-1')).spec.suspend).toBe(false);
  });

  it('names what nothing would bring back, and leaves it alone', async () => {
    await create(api, path('v1', name, 'pods'), {
      metadata: { name: 'bare' },
      spec: { containers: [{ name: 'c', image: 'x' }] },
    });
    await create(api, path('batch/v1', name, 'jobs'), { metadata: { name: 'by-hand' }, spec: job.spec });
    const { recordApplications, stopApplications } = activities();
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });

    const call = stopApplications({ migration: 'demo', namespaces: [name], record });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(new RegExp(`pod ${name}/bare .*Job ${name}/by-hand`)) as string,
    });
    expect(await api.list(path('v1', name, 'pods'))).toHaveLength(2);
  });

  it('does not count finished and failed pods', async () => {
    for (const [pod, phase] of [
      ['done', 'Succeeded'],
      ['evicted', 'Failed'],
    ] as const) {
      await create(api, path('v1', name, 'pods'), {
        metadata: { name: pod },
        spec: { containers: [{ name: 'c', image: 'x' }] },
      });
      await api.request('PATCH', `${path('v1', name, 'pods', pod)}/status`, { body: { status: { phase } } });
    }
    const { stopApplications } = activities();
    const record: ApplicationRecord = { takenAt: 'now', workloads: [] };

    expect(await stopApplications({ migration: 'demo', namespaces: [name], record })).toMatchObject({ changed: false });
  });

  it('refuses workloads that appeared after the record, before anything is stopped', async () => {
    await create(api, path('apps/v1', name, 'deployments'), deployment('web', 1));
    const { recordApplications, stopApplications } = activities();
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });
    await create(api, path('apps/v1', name, 'deployments'), deployment('late', 1));

    const call = stopApplications({ migration: 'demo', namespaces: [name], record });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`Deployment ${name}/late`) as string,
    });
    expect((await get('apps/v1', 'deployments', 'web')).spec.replicas).toBe(1);
  });

  it('refuses what another migration has stopped', async () => {
    await create(api, path('apps/v1', name, 'deployments'), deployment('web', 1));
    const first = activities();
    const record = await first.recordApplications({ migration: 'first', namespaces: [name] });
    await first.stopApplications({ migration: 'first', namespaces: [name], record });

    const call = first.recordApplications({ migration: 'second', namespaces: [name] });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('breadcrumbs of first') as string,
    });
  });

  it('fails on a namespace that does not exist, and on an API that does not answer', async () => {
    const { recordApplications, stopApplications } = activities();
    await expect(recordApplications({ migration: 'demo', namespaces: ['nowhere'] })).rejects.toMatchObject({
      type: 'Permanent',
    });

    const record: ApplicationRecord = { takenAt: 'now', workloads: [] };
    plane.freeze();
    try {
      const call = stopApplications({ migration: 'demo', namespaces: [name], record });
      await expect(call).rejects.toMatchObject({ type: 'Transient', nonRetryable: false });
    } finally {
      plane.thaw();
    }
  });

  it('does not wait for what was not ready before', async () => {
    await create(api, path('apps/v1', name, 'deployments'), deployment('healthy', 1));
    await create(api, path('apps/v1', name, 'deployments'), deployment('broken', 1));
    const stopReporting = reportPodsRunning(api, name, (pod) => pod.startsWith('healthy'));
    await until(
      'the healthy one',
      20,
      async () => (await get('apps/v1', 'deployments', 'healthy')).status?.readyReplicas === 1,
    );
    const { recordApplications, stopApplications, startApplications } = activities();
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });
    await stopApplications({ migration: 'demo', namespaces: [name], record });

    const started = await startApplications({ migration: 'demo', record });

    expect(started.proof).toContain(`not ready before the migration either: Deployment ${name}/broken 0 of 1 ready`);
    await stopReporting();
  });

  it('waits for what was ready before, and says what is missing', async () => {
    await create(api, path('apps/v1', name, 'deployments'), deployment('web', 1));
    const stopReporting = reportPodsRunning(api, name, () => true);
    await until('it', 20, async () => (await get('apps/v1', 'deployments', 'web')).status?.readyReplicas === 1);
    const { recordApplications, stopApplications, startApplications, clearBreadcrumbs } = activities({ ready: 2000 });
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });
    await stopApplications({ migration: 'demo', namespaces: [name], record });
    await stopReporting();

    const clearing = clearBreadcrumbs({ migration: 'demo', namespaces: [name] });
    await expect(clearing).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('still stopped') as string,
    });
    const call = startApplications({ migration: 'demo', record });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`Deployment ${name}/web 0 of 1 ready`) as string,
    });
    expect((await get('apps/v1', 'deployments', 'web')).spec.replicas).toBe(1);
    expect(await clearBreadcrumbs({ migration: 'demo', namespaces: [name] })).toMatchObject({ changed: true });
  });

  it('leaves the number to an autoscaler once the workload runs', async () => {
    await application();
    const stopReporting = reportPodsRunning(api, name, () => true);
    await allReady();
    const { recordApplications, stopApplications, startApplications } = activities();
    const record = await recordApplications({ migration: 'demo', namespaces: [name] });
    await stopApplications({ migration: 'demo', namespaces: [name], record });
    await api.request('PATCH', path('apps/v1', name, 'deployments', 'web'), { body: { spec: { replicas: 4 } } });

    await startApplications({ migration: 'demo', record });

    expect((await get('apps/v1', 'deployments', 'web')).spec.replicas).toBe(4);
    await stopReporting();
  });
});
