import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ensureParts, partFolder } from '../../lab/build/parts.ts';
import { type Deadlines, defaultDeadlines } from '../../src/activities/deadlines.ts';
import { localRunner } from '../../src/activities/helm.ts';
import { type KubernetesApi, path } from '../../src/activities/kubernetes-api.ts';
import { createUninstallActivities } from '../../src/activities/uninstall.ts';
import type { Hosts } from '../../src/hosts/contract.ts';
import type { PlannedComponent } from '../../src/plan/plan.ts';
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
import { claim, createVolumes, planned } from './components.ts';

let plane: ControlPlane;
let api: KubernetesApi;
let charts: string;
const environment = { PATH: process.env['PATH'], KUBECONFIG: process.env['KUBECONFIG'] };
beforeAll(async () => {
  await ensureParts(['helm']);
  plane = await startControlPlane();
  api = plane.api;
  charts = await mkdtemp(join(tmpdir(), 'charts-'));
  // Helm runs on the worker here: it sees the worker's environment.
  process.env['PATH'] = `${partFolder('helm')}${delimiter}${environment.PATH ?? ''}`;
  process.env['KUBECONFIG'] = plane.kubeConfigFile;
});
afterAll(async () => {
  for (const [key, value] of Object.entries(environment)) {
    if (value === undefined) Reflect.deleteProperty(process.env, key);
    else process.env[key] = value;
  }
  await plane.stop();
  await rm(charts, { recursive: true, force: true });
});

let counter = 0;
let name: string;
beforeEach(async () => {
  counter += 1;
  name = `gone${counter}`;
  await namespace(api, name);
});

const noHosts: Hosts = {
  connect: () => Promise.reject(new Error('no machine is needed here')),
  close: () => Promise.resolve(),
};
function activities(overrides: Partial<Deadlines> = {}): ReturnType<typeof createUninstallActivities> {
  return createUninstallActivities({
    api,
    hosts: noHosts,
    deadlines: { ...defaultDeadlines, gone: 20_000, ...overrides },
  });
}

const withClaim = (claimName: string, app = 'kafka'): object =>
  podTemplate(app, { volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }] });

/** A release with one StatefulSet whose pods have the claims mounted, as a chart of the platform makes it. */
async function installRelease(component: PlannedComponent, release: string): Promise<void> {
  const chart = join(charts, component.namespace);
  await mkdir(join(chart, 'templates'), { recursive: true });
  await writeFile(join(chart, 'Chart.yaml'), `apiVersion: v2\nname: ${release}\nversion: 1.0.0\n`);
  const set = statefulSet(release, component.replicas.length, withClaim(component.replicas[0]?.pvc ?? ''));
  await writeFile(join(chart, 'templates', 'set.json'), JSON.stringify(set));
  const result = await localRunner.run(['helm3', 'install', release, chart, '--namespace', component.namespace]);
  expect(result.stderr).toBe('');
  expect(result.code).toBe(0);
}

const names = async (plural: string, groupVersion = 'v1'): Promise<string[]> =>
  (await api.list<{ metadata: { name: string } }>(path(groupVersion, name, plural))).map(
    ({ metadata }) => metadata.name,
  );
const volumes = async (): Promise<string[]> =>
  (await api.list<{ metadata: { name: string } }>(path('v1', undefined, 'persistentvolumes')))
    .map(({ metadata }) => metadata.name)
    .filter((volume) => volume.startsWith(`${name}-`));

const finalizers = (object: string, value: string[]): Promise<unknown> =>
  api.request('PATCH', object, { body: { metadata: { finalizers: value } } });

describe('uninstalling a component of a Helm release', () => {
  let component: PlannedComponent;
  beforeEach(() => {
    component = planned('kafka', name, 'kafka', [
      ['old1', 'new1'],
      ['old2', 'new2'],
    ]);
  });

  it('deletes exactly what was recorded, and a second time nothing', async () => {
    await createVolumes(api, component);
    await createVolumes(api, planned('kafka', name, 'other', [['old1', 'new1']]));
    await installRelease(component, 'kafka');
    const stopReporting = reportPodsRunning(api, name, () => true);
    await until('its pods', 20, async () => (await names('pods')).length === 2);
    const { recordVolumes, uninstallComponent } = activities();

    const [record] = await recordVolumes({ components: [component] });
    expect(record).toEqual({
      component: 'kafka',
      namespace: name,
      persistentVolumes: [`${name}-kafka-0`, `${name}-kafka-1`],
      claims: ['data-kafka-0', 'data-kafka-1'],
      statefulSets: ['kafka'],
    });
    const done = await uninstallComponent({ migration: 'demo', component, volumes: record! });

    expect(done.changed).toBe(true);
    expect(await names('statefulsets', 'apps/v1')).toEqual([]);
    expect(await names('pods')).toEqual([]);
    expect(await names('persistentvolumeclaims')).toEqual(['data-other-0']);
    expect(await volumes()).toEqual([`${name}-other-0`]);
    expect(await uninstallComponent({ migration: 'demo', component, volumes: record! })).toMatchObject({
      changed: false,
    });
    await stopReporting();
  });

  it.each([
    {
      what: 'whose reclaim policy is Delete',
      prepare: () => createVolumes(api, component, { policy: 'Delete' }),
      message: 'its reclaim policy is Delete',
    },
    {
      what: 'bound to a claim of somebody else',
      prepare: async () => {
        await createVolumes(api, planned('kafka', name, 'other', [['old1', 'new1']]));
        component = { ...component, replicas: component.replicas.map((one) => ({ ...one, pv: `${name}-other-0` })) };
      },
      message: 'which is none of the component',
    },
  ])('refuses a volume $what before anything is deleted', async ({ prepare, message }) => {
    await prepare();
    await create(api, path('apps/v1', name, 'statefulsets'), statefulSet('kafka', 1));
    const { recordVolumes, uninstallComponent } = activities();
    const record = {
      component: 'kafka' as const,
      namespace: name,
      persistentVolumes: component.replicas.map(({ pv }) => pv),
      claims: component.replicas.map(({ pvc }) => pvc),
      statefulSets: ['kafka'],
    };
    const refused = { type: 'NeedsHuman', message: expect.stringContaining(message) as string };

    await expect(recordVolumes({ components: [component] })).rejects.toMatchObject(refused);
    await expect(uninstallComponent({ migration: 'demo', component, volumes: record })).rejects.toMatchObject(refused);
    expect(await names('statefulsets', 'apps/v1')).toEqual(['kafka']);
  });

  it('names the finalizer that blocks, and goes on where it was when that is gone', async () => {
    await createVolumes(api, component);
    const { recordVolumes, uninstallComponent } = activities({ gone: 4000 });
    const [record] = await recordVolumes({ components: [component] });
    const held = path('v1', name, 'persistentvolumeclaims', 'data-kafka-1');
    await finalizers(held, ['example.org/hold']);

    const call = uninstallComponent({ migration: 'demo', component, volumes: record! });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`PVC ${name}/data-kafka-1 (finalizer example.org/hold)`) as string,
    });
    expect(await volumes()).toEqual([`${name}-kafka-0`, `${name}-kafka-1`]);
    await finalizers(held, []);
    expect(await uninstallComponent({ migration: 'demo', component, volumes: record! })).toMatchObject({
      changed: true,
    });
    expect(await volumes()).toEqual([]);
  });

  it('deletes again what a controller on its way out makes once more', async () => {
    await createVolumes(api, component);
    const { recordVolumes, uninstallComponent } = activities();
    const [record] = await recordVolumes({ components: [component] });
    const claims = path('v1', name, 'persistentvolumeclaims');
    // Another claim holds the activity until the first one has come back.
    await finalizers(`${claims}/data-kafka-1`, ['lab/hold']);

    const uninstalling = uninstallComponent({ migration: 'demo', component, volumes: record! });
    await until('the claim to go', 10, async () => (await api.find(`${claims}/data-kafka-0`)) === undefined);
    const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
    await create(api, claims, { metadata: { name: 'data-kafka-0' }, spec });
    await until('it to go again', 10, async () => (await api.find(`${claims}/data-kafka-0`)) === undefined);
    await finalizers(`${claims}/data-kafka-1`, []);

    expect(await uninstalling).toMatchObject({ changed: true });
    expect(await names('persistentvolumeclaims')).toEqual([]);
    expect(await volumes()).toEqual([]);
  });

  it('names the pod that has a claim mounted', async () => {
    await createVolumes(api, component);
    const { recordVolumes, uninstallComponent } = activities({ gone: 3000 });
    const [record] = await recordVolumes({ components: [component] });
    const pod = { metadata: { name: 'debug' }, ...(withClaim('data-kafka-0') as { spec: object }) };
    await create(api, path('v1', name, 'pods'), { ...pod, metadata: { name: 'debug' } });

    const call = uninstallComponent({ migration: 'demo', component, volumes: record! });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`pod ${name}/debug (Pending)`) as string,
    });
    expect(await names('persistentvolumeclaims')).toEqual(['data-kafka-0', 'data-kafka-1']);
  });

  it('clears finished pods away, which would hold a claim for ever', async () => {
    await createVolumes(api, component);
    const { recordVolumes, uninstallComponent } = activities();
    const [record] = await recordVolumes({ components: [component] });
    await create(api, path('v1', name, 'pods'), {
      ...withClaim('data-kafka-0'),
      metadata: { name: 'rotate' },
    });
    const status = { body: { status: { phase: 'Succeeded' } } };
    await api.request('PATCH', `${path('v1', name, 'pods', 'rotate')}/status`, status);

    await uninstallComponent({ migration: 'demo', component, volumes: record! });

    expect(await names('pods')).toEqual([]);
    expect(await volumes()).toEqual([]);
  });
});

describe('uninstalling a component of an operator', () => {
  const group = 'rds.proton.aishu.cn';
  const operator = {
    namespace: 'proton-rds-mariadb-operator-system',
    name: 'proton-rds-mariadb-operator-controller-manager',
  };
  const resource = (): string => path(`${group}/v1`, name, 'rdsmariadbclusters', 'mariadb');
  let stopReporting: () => Promise<void>;

  beforeAll(async () => {
    await create(api, '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: `rdsmariadbclusters.${group}` },
      spec: {
        group,
        scope: 'Namespaced',
        names: { plural: 'rdsmariadbclusters', singular: 'rdsmariadbcluster', kind: 'RDSMariaDBCluster' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
    });
    await namespace(api, operator.namespace);
    await create(api, path('apps/v1', operator.namespace, 'deployments'), deployment(operator.name, 1));
    stopReporting = () => Promise.resolve();
  });
  afterAll(async () => {
    await stopReporting();
  });

  async function createResource(component: PlannedComponent, held: string[]): Promise<void> {
    await createVolumes(api, component);
    await until('the resource type', 20, async () => {
      await create(api, path(`${group}/v1`, name, 'rdsmariadbclusters'), {
        apiVersion: `${group}/v1`,
        kind: 'RDSMariaDBCluster',
        metadata: { name: 'mariadb', ...(held.length > 0 && { finalizers: held }) },
        spec: { replicas: 1 },
      });
      return true;
    });
    const owner = await api.request<{ metadata: { uid: string } }>('GET', resource());
    const reference = {
      apiVersion: `${group}/v1`,
      kind: 'RDSMariaDBCluster',
      name: 'mariadb',
      uid: owner.metadata.uid,
      controller: true,
    };
    const set = statefulSet('mariadb-mariadb', 1, withClaim(component.replicas[0]?.pvc ?? '', 'mariadb-mariadb')) as {
      metadata: object;
    };
    await create(api, path('apps/v1', name, 'statefulsets'), {
      ...set,
      metadata: { name: 'mariadb-mariadb', ownerReferences: [reference] },
    });
    await until('its pod', 20, async () => (await names('pods')).length === 1);
  }

  it('refuses while the operator that must handle the finalizers is down', async () => {
    const component = planned('mariadb', name, 'mariadb-mariadb', [['old1', 'new1']]);
    await createResource(component, [`${group}/delete-storage`]);
    const { recordVolumes, uninstallComponent } = activities();
    const [record] = await recordVolumes({ components: [component] });

    const call = uninstallComponent({ migration: 'demo', component, volumes: record! });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`handled by Deployment ${operator.namespace}/${operator.name}`) as string,
    });
    expect(
      (await api.request<{ metadata: { deletionTimestamp?: string } }>('GET', resource())).metadata.deletionTimestamp,
    ).toBe(undefined);
  });

  it('deletes without an operator what has no finalizer, and its pods and volumes', async () => {
    const component = planned('mariadb', name, 'mariadb-mariadb', [['old1', 'new1']]);
    await createResource(component, []);
    const { recordVolumes, uninstallComponent } = activities();
    const [record] = await recordVolumes({ components: [component] });

    const done = await uninstallComponent({ migration: 'demo', component, volumes: record! });

    expect(done.changed).toBe(true);
    expect(await api.find(resource())).toBeUndefined();
    expect([...(await names('statefulsets', 'apps/v1')), ...(await names('pods')), ...(await volumes())]).toEqual([]);
  });

  it('waits for the operator and names the finalizer it does not come to', async () => {
    stopReporting = reportPodsRunning(api, operator.namespace, () => true);
    await until('the operator', 30, async () => {
      const live = await api.request<{ status?: { availableReplicas?: number } }>(
        'GET',
        path('apps/v1', operator.namespace, 'deployments', operator.name),
      );
      return live.status?.availableReplicas === 1;
    });
    const component = planned('mariadb', name, 'mariadb-mariadb', [['old1', 'new1']]);
    await createResource(component, [`${group}/delete-storage`, `${group}/delete-app`]);
    const { recordVolumes, uninstallComponent } = activities({ gone: 3000 });
    const [record] = await recordVolumes({ components: [component] });

    const call = uninstallComponent({ migration: 'demo', component, volumes: record! });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(
        `RDSMariaDBCluster ${name}/mariadb: finalizer ${group}/delete-storage, ${group}/delete-app; its operator ${operator.namespace}/${operator.name} has 1 available replicas`,
      ) as string,
    });
    await finalizers(resource(), []);
    expect(await uninstallComponent({ migration: 'demo', component, volumes: record! })).toMatchObject({
      changed: true,
    });
    expect(await volumes()).toEqual([]);
  });
});

describe('recording volumes', () => {
  it('finds those whose names the platform does not document in the live cluster', async () => {
    const component: PlannedComponent = {
      ...planned('nebula', name, 'nebula-storaged', [['old1', 'new1']]),
      statefulSets: ['nebula-graphd', 'nebula-metad', 'nebula-storaged'],
    };
    await createVolumes(api, component);
    await createVolumes(api, {
      ...component,
      replicas: [
        { ordinal: 0, from: 'old1', to: 'new1', pod: 'x', pvc: 'metad-data-nebula-metad-0', pv: `${name}-meta` },
      ],
    });
    await create(api, path('v1', name, 'persistentvolumeclaims'), claim('data-other-0'));

    const [record] = await activities().recordVolumes({ components: [component] });

    expect(record).toMatchObject({
      claims: ['data-nebula-storaged-0', 'metad-data-nebula-metad-0'],
      persistentVolumes: [`${name}-meta`, `${name}-nebula-storaged-0`],
    });
  });
});
