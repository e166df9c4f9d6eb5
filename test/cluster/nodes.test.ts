/* Nodes that are drained, freed of taints and deleted, against a real API server: evictions, budgets and uids are its own. There is no kubelet. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultDeadlines } from '../../src/activities/deadlines.ts';
import { path } from '../../src/activities/kubernetes-api.ts';
import { createMasterActivities } from '../../src/activities/masters.ts';
import {
  create,
  deployment,
  namespace,
  podTemplate,
  startControlPlane,
  until,
  type ControlPlane,
} from './api-server.ts';

let plane: ControlPlane;
beforeAll(async () => {
  plane = await startControlPlane();
  await namespace(plane.api, 'work');
});
afterAll(() => plane.stop());

function activities(drained = 20_000): ReturnType<typeof createMasterActivities> {
  const hosts = {
    connect: () => Promise.reject(new Error('no machine is asked here')),
    close: () => Promise.resolve(),
  };
  const deadlines = { ...defaultDeadlines, drained, nodeStaysAway: 2000 };
  return createMasterActivities({ api: plane.api, hosts, deadlines });
}

interface Taint {
  key: string;
  effect: string;
}
interface Node {
  metadata: { uid: string };
  spec: { unschedulable?: boolean; taints?: Taint[] };
}
const nodePath = (name: string): string => path('v1', undefined, 'nodes', name);

async function node(name: string, taints: Taint[] = []): Promise<void> {
  await create(plane.api, '/api/v1/nodes', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    spec: { taints },
  });
}

async function nodeNow(name: string): Promise<Node> {
  return plane.api.request<Node>('GET', nodePath(name));
}

interface Pod {
  metadata: { name: string; uid: string; deletionTimestamp?: string; labels?: Record<string, string> };
  spec: { nodeName?: string };
}

async function podsOf(app: string): Promise<Pod[]> {
  return plane.api.list<Pod>(path('v1', 'work', 'pods'), { labelSelector: `app=${app}` });
}

/** A Deployment whose pods are bound to a node, as a scheduler would. */
async function workload(app: string, replicas: number, on: string): Promise<void> {
  const object = deployment(app, replicas) as { spec: { template: unknown } };
  object.spec.template = podTemplate(app, { nodeName: on, tolerations: [{ operator: 'Exists' }] });
  await create(plane.api, path('apps/v1', 'work', 'deployments'), object);
  await until(`pods of ${app}`, 30, async () => (await podsOf(app)).length === replicas);
}

/** What a kubelet does for a pod that was told to end. */
function endTerminating(): () => void {
  const timer = setInterval(() => {
    void plane.api
      .list<Pod>(path('v1', 'work', 'pods'))
      .then((pods) =>
        Promise.all(
          pods
            .filter(({ metadata }) => metadata.deletionTimestamp !== undefined)
            .map(({ metadata }) =>
              plane.api.request('DELETE', path('v1', 'work', 'pods', metadata.name), {
                body: { gracePeriodSeconds: 0 },
              }),
            ),
        ),
      )
      .catch(() => undefined);
  }, 300);
  return () => clearInterval(timer);
}

/** What a kubelet tells of its pods, which budgets count. */
async function reportReady(app: string): Promise<void> {
  const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime: new Date().toISOString() }];
  for (const { metadata } of await podsOf(app)) {
    await plane.api.request('PATCH', `${path('v1', 'work', 'pods', metadata.name)}/status`, {
      body: { status: { phase: 'Running', conditions } },
    });
  }
}

describe('taints', () => {
  const mine = { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' };
  const others = [
    { key: 'node-role.kubernetes.io/master', effect: 'PreferNoSchedule' },
    { key: 'company.example/gpu', effect: 'NoSchedule' },
  ];
  /** The control plane adds its own to Nodes that nobody reports ready. */
  const given = (found: Node): Taint[] =>
    (found.spec.taints ?? [])
      .filter(({ key }) => !key.startsWith('node.kubernetes.io/'))
      .map(({ key, effect }) => ({ key, effect }));

  it('of its role go when the old master has none, and only those', async () => {
    await node('old-a');
    await node('new-a', [mine, ...others]);

    const first = await activities().matchTaints({ node: 'new-a', like: 'old-a' });
    const second = await activities().matchTaints({ node: 'new-a', like: 'old-a' });

    expect([first.changed, second.changed]).toEqual([true, false]);
    expect(given(await nodeNow('new-a'))).toEqual(others);
  });

  it('stay where the old master has the same', async () => {
    await node('old-b', [mine]);
    await node('new-b', [mine]);

    expect((await activities().matchTaints({ node: 'new-b', like: 'old-b' })).changed).toBe(false);
    expect(given(await nodeNow('new-b'))).toEqual([mine]);
  });

  it('are left alone without a Node', async () => {
    await expect(activities().matchTaints({ node: 'none', like: 'old-a' })).rejects.toMatchObject({
      type: 'NeedsHuman',
    });
  });
});

describe('a drain', () => {
  it('cordons, evicts all but DaemonSets and static pods, and is done once', async () => {
    await node('drain-a');
    await workload('web', 2, 'drain-a');
    const uid = (await nodeNow('drain-a')).metadata.uid;
    const meta = (name: string, kind: string, extra: object = {}): object => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: 'work',
        labels: { app: name },
        ownerReferences: [{ apiVersion: 'v1', kind, name: 'drain-a', uid, controller: true }],
        ...extra,
      },
      spec: { nodeName: 'drain-a', terminationGracePeriodSeconds: 1, containers: [{ name: 'c', image: 'none' }] },
    });
    const mirror = { annotations: { 'kubernetes.io/config.mirror': 'x' } };
    await create(plane.api, path('v1', 'work', 'pods'), meta('static', 'Node', mirror));
    const ended = endTerminating();

    const drained = activities().drainNode({ node: 'drain-a' });
    // Its Deployment makes new ones at once, on the same node: nothing else can take them here.
    await until('an eviction', 20, async () => (await nodeNow('drain-a')).spec.unschedulable === true);
    await plane.api.request('PATCH', path('apps/v1', 'work', 'deployments', 'web'), {
      body: { spec: { replicas: 0 } },
    });
    const { changed, proof } = await drained;
    const again = await activities().drainNode({ node: 'drain-a' });
    ended();

    expect([changed, again.changed]).toEqual([true, false]);
    expect(proof).toContain('drain-a is cordoned');
    expect(await podsOf('web')).toEqual([]);
    expect((await podsOf('static')).map(({ metadata }) => metadata.deletionTimestamp)).toEqual([undefined]);
  });

  it('changes nothing where a pod would never come back, and names it', async () => {
    await node('drain-b');
    await create(plane.api, path('v1', 'work', 'pods'), {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'alone', namespace: 'work', labels: { app: 'alone' } },
      spec: { nodeName: 'drain-b', containers: [{ name: 'c', image: 'none' }] },
    });

    await expect(activities().drainNode({ node: 'drain-b' })).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('work/alone') as string,
    });
    expect((await nodeNow('drain-b')).spec.unschedulable).toBeUndefined();
    expect(await podsOf('alone')).toHaveLength(1);
  });

  it('names the budget that keeps a pod', async () => {
    await node('drain-c');
    await workload('guarded', 1, 'drain-c');
    await reportReady('guarded');
    await create(plane.api, path('policy/v1', 'work', 'poddisruptionbudgets'), {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'keep', namespace: 'work' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } },
    });
    const [before] = await podsOf('guarded');

    const drained = activities(4000).drainNode({ node: 'drain-c' });

    await expect(drained).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(/work\/guarded-\S+: PodDisruptionBudget work\/keep needs 1 healthy/) as string,
    });
    expect((await podsOf('guarded')).map(({ metadata }) => metadata.uid)).toEqual([before?.metadata.uid]);
  });

  it('does not wait for a kubelet that is silent, once the grace is long over', async () => {
    await node('drain-d');
    await workload('lost', 1, 'drain-d');
    const drained = activities(60_000).drainNode({ node: 'drain-d' });
    await until('the eviction', 20, async () => {
      return (await podsOf('lost')).some(({ metadata }) => metadata.deletionTimestamp !== undefined);
    });
    await plane.api.request('PATCH', path('apps/v1', 'work', 'deployments', 'lost'), {
      body: { spec: { replicas: 0 } },
    });

    // A replacement may have been made before.
    const { proof } = await drained;

    expect(proof).toMatch(/its kubelet is silent, so nobody can say that work\/lost-.* ended/);
  });

  it('of a Node that is gone has nothing to do', async () => {
    expect(await activities().drainNode({ node: 'gone' })).toMatchObject({ changed: false });
  });
});

describe('a Node that is deleted', () => {
  it('takes its backup job along, and no other', async () => {
    await namespace(plane.api, 'proton');
    await node('leaving');
    for (const name of ['proton-cs-backup-leaving', 'proton-cs-backup-staying']) {
      const template = { spec: { ...(podTemplate(name) as { spec: object }).spec, restartPolicy: 'Never' } };
      await create(plane.api, path('batch/v1', 'proton', 'cronjobs'), {
        apiVersion: 'batch/v1',
        kind: 'CronJob',
        metadata: { name, namespace: 'proton' },
        spec: { schedule: '30 18 * * *', jobTemplate: { spec: { template } } },
      });
    }

    const input = { node: 'leaving', configNamespace: 'proton' };
    const first = await activities().deleteNode(input);
    const second = await activities().deleteNode(input);

    expect([first.changed, second.changed]).toEqual([true, false]);
    expect(await plane.api.find(nodePath('leaving'))).toBeUndefined();
    const left = await plane.api.list<{ metadata: { name: string } }>(path('batch/v1', 'proton', 'cronjobs'));
    expect(left.map(({ metadata }) => metadata.name)).toEqual(['proton-cs-backup-staying']);
  });

  it('and comes back is told, since its kubelet still runs', async () => {
    await node('zombie');
    const deleted = activities().deleteNode({ node: 'zombie', configNamespace: 'proton' });
    const outcome = expect(deleted).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('Node zombie comes back') as string,
    });
    await until('the deletion', 10, async () => (await plane.api.find(nodePath('zombie'))) === undefined);
    await node('zombie');

    await outcome;
  });
});
