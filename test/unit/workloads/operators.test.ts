import { describe, expect, it } from 'vitest';
import type { Api, Answer } from '../../../lab/workloads/operators/api.ts';
import { holdLease } from '../../../lab/workloads/operators/controller.ts';
import {
  mariadbMasterService,
  mariadbObjects,
  mongodbObjects,
  nebulaObjects,
  type KubernetesObject,
  type MariadbResource,
  type MongodbResource,
  type NebulaResource,
} from '../../../lab/workloads/operators/objects.ts';
import { components } from '../../../lab/workloads/components.ts';
import { customResource, foldersOf } from '../../../lab/workloads/platform.ts';

const settings = { image: 'server', sideImage: 'side', sides: true, mariadbArguments: ['--small'] };
const hosts = ['old1', 'old2', 'old3'];

function resourceOf(name: string): KubernetesObject {
  const component = components.find((one) => one.name === name)!;
  const resource = customResource(component, hosts) as KubernetesObject;
  resource.metadata.uid = 'uid-1';
  return resource;
}

const named = (objects: KubernetesObject[]): string[] =>
  objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
const spec = (object: KubernetesObject | undefined): Record<string, unknown> =>
  (object?.spec ?? {}) as Record<string, unknown>;
const placeOf = (volume: KubernetesObject | undefined): unknown => {
  const { local, nodeAffinity } = spec(volume) as {
    local: { path: string };
    nodeAffinity: { required: { nodeSelectorTerms: { matchExpressions: object[] }[] } };
  };
  return [local.path, nodeAffinity.required.nodeSelectorTerms[0]?.matchExpressions];
};
const onHost = (host: string): object[] => [{ key: 'kubernetes.io/hostname', operator: 'In', values: [host] }];

describe('mariadb', () => {
  const managed = mariadbObjects(resourceOf('mariadb') as MariadbResource, settings);

  it('names volumes and claims as the platform does, claims without labels', () => {
    expect(named(managed.volumes)).toEqual([0, 1, 2].map((i) => `PersistentVolume resource-mariadb-mariadb-pv-${i}`));
    expect(named(managed.claims)).toEqual(
      [0, 1, 2].map((i) => `PersistentVolumeClaim mariadb-datadir-mariadb-mariadb-${i}`),
    );
    expect(managed.volumes[1]?.metadata).toEqual({
      name: 'resource-mariadb-mariadb-pv-1',
      labels: { app: 'mariadb-mariadb', podindex: '1' },
    });
    expect(placeOf(managed.volumes[1])).toEqual(['/sysvol/mariadb', onHost('old2')]);
    expect(spec(managed.volumes[0])).toMatchObject({ persistentVolumeReclaimPolicy: 'Retain', storageClassName: '' });
    for (const claim of managed.claims) expect(claim.metadata).not.toHaveProperty('labels');
    expect(spec(managed.claims[2])).toMatchObject({
      selector: { matchLabels: { app: 'mariadb-mariadb', podindex: '2' } },
    });
  });

  it('owns what is collected with the resource, and nothing that holds data', () => {
    expect(named(managed.owned)).toEqual([
      'Service mariadb-mariadb',
      'Service mariadb-mariadb-cluster',
      'ConfigMap mariadb-config',
      'StatefulSet mariadb-mariadb',
      'Deployment mariadb-etcd',
      'Deployment mariadb-mgmt',
      'Service mariadb-mgmt-cluster',
      'Deployment mariadb-exporter',
      'CronJob mariadb-logrotate-0',
      'CronJob mariadb-logrotate-1',
      'CronJob mariadb-logrotate-2',
    ]);
    for (const object of managed.owned)
      expect(object.metadata.ownerReferences).toEqual([
        expect.objectContaining({ kind: 'RDSMariaDBCluster', uid: 'uid-1' }),
      ]);
    for (const object of [...managed.volumes, ...managed.claims])
      expect(object.metadata).not.toHaveProperty('ownerReferences');
  });

  it('runs in parallel with fsGroup 1001 and rotates logs by host path at 18:00', () => {
    const statefulSet = managed.owned.find(({ kind }) => kind === 'StatefulSet');
    expect(spec(statefulSet)).toMatchObject({
      podManagementPolicy: 'Parallel',
      replicas: 3,
      template: { spec: { securityContext: { fsGroup: 1001 } } },
    });
    expect(JSON.stringify(managed.owned.find(({ metadata }) => metadata.name === 'mariadb-logrotate-1'))).toMatch(
      /"schedule":"0 18 \* \* \*".*"nodeSelector":\{"kubernetes.io\/hostname":"old2"\}.*"hostPath":\{"path":"\/sysvol\/mariadb"\}/,
    );
  });

  it('leads its master service to the pod labelled so', () => {
    expect(mariadbMasterService(resourceOf('mariadb'))).toMatchObject({
      metadata: { name: 'mariadb-mariadb-master', namespace: 'resource' },
      spec: { selector: { app: 'mariadb-mariadb', 'db-role': 'master' } },
    });
  });
});

describe('mongodb', () => {
  const managed = mongodbObjects(resourceOf('mongodb') as MongodbResource, settings);

  it('presets the claim of each volume and selects by three labels', () => {
    expect(managed.volumes[1]?.metadata).toEqual({
      name: 'mongodb-mongodb-resource-1',
      labels: { app: 'mongodb-mongodb', podindex: '1', namespace: 'resource' },
    });
    expect(spec(managed.volumes[1])['claimRef']).toMatchObject({
      namespace: 'resource',
      name: 'mongodb-datadir-mongodb-mongodb-1',
    });
    expect(placeOf(managed.volumes[2])).toEqual(['/sysvol/mongodb/mongodb_data', onHost('old3')]);
    expect(managed.claims[1]?.metadata).toEqual({ name: 'mongodb-datadir-mongodb-mongodb-1', namespace: 'resource' });
    expect(spec(managed.claims[1])).toMatchObject({
      selector: { matchLabels: { app: 'mongodb-mongodb', podindex: '1', namespace: 'resource' } },
    });
  });

  it('rotates logs every half hour through the claim', () => {
    expect(JSON.stringify(managed.owned.find(({ metadata }) => metadata.name === 'logrotate-cron-2'))).toMatch(
      /"schedule":"\*\/30 \* \* \* \*".*"claimName":"mongodb-datadir-mongodb-mongodb-2"/,
    );
  });
});

describe('nebula', () => {
  const managed = nebulaObjects(resourceOf('nebula') as NebulaResource, settings);

  it('has three kinds of StatefulSets with upstream’s labels, and a claim for each of their directories', () => {
    const sets = managed.owned.filter(({ kind }) => kind === 'StatefulSet');
    expect(named(sets)).toEqual([
      'StatefulSet nebula-graphd',
      'StatefulSet nebula-metad',
      'StatefulSet nebula-storaged',
    ]);
    expect(managed.claims).toHaveLength(15);
    for (const claim of managed.claims)
      expect(claim.metadata.labels).toMatchObject({
        'app.kubernetes.io/cluster': 'nebula',
        'app.kubernetes.io/name': 'nebula-graph',
      });
    expect(managed.claims.map(({ metadata }) => metadata.name)).toContain('storaged-data-nebula-storaged-2');
  });

  it('uses only directories that the platform prepares', () => {
    const component = components.find(({ name }) => name === 'nebula')!;
    const paths = new Set(managed.volumes.map((volume) => (placeOf(volume) as [string])[0]));
    expect([...paths].sort()).toEqual(foldersOf(component).sort());
  });
});

describe('holdLease', () => {
  const lease = { namespace: 'n', name: 'l', holder: 'me' };
  const at = Date.parse('2026-01-01T00:00:00Z');

  /** An API that answers GET with a lease and records writes. */
  function apiWith(held: object | undefined, writeStatus = 200): { api: Api; writes: string[] } {
    const writes: string[] = [];
    const call = (method: string): Promise<Answer> => {
      if (method === 'GET') return Promise.resolve({ status: held === undefined ? 404 : 200, body: held });
      writes.push(method);
      return Promise.resolve({ status: writeStatus, body: {} });
    };
    return { api: { call }, writes };
  }
  const heldBy = (holderIdentity: string, secondsAgo: number): object => ({
    metadata: { name: 'l' },
    spec: { holderIdentity, renewTime: new Date(at - secondsAgo * 1000).toISOString() },
  });

  it.each([
    ['absent: makes it', undefined, 200, true, ['POST']],
    ['absent, but another was faster', undefined, 409, false, ['POST']],
    ['own and fresh: nothing to write', heldBy('me', 1), 200, true, []],
    ['own and older: renews', heldBy('me', 5), 200, true, ['PUT']],
    ['another’s and fresh: waits', heldBy('you', 5), 200, false, []],
    ['another’s and expired: takes it', heldBy('you', 16), 200, true, ['PUT']],
    ['another’s and expired, but a third was faster', heldBy('you', 16), 409, false, ['PUT']],
  ])('%s', async (_, held, status, leads, writes) => {
    const { api, writes: seen } = apiWith(held, status);
    expect(await holdLease(api, lease, at)).toBe(leads);
    expect(seen).toEqual(writes);
  });
});
