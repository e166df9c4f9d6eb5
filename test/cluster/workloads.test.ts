/* The lab's own components behave as the platform's do, and its ledger notices what is lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accessFromEnvironment, type LabAccess } from '../../lab/workloads/access.ts';
import { componentsOf, type Component } from '../../lab/workloads/components.ts';
import { checkLedger, describeVerdict, type LedgerVerdict } from '../../lab/workloads/ledger.ts';
import { customResource, installPlatform } from '../../lab/workloads/platform.ts';
import { profileFromEnvironment } from '../../lab/workloads/service-package.ts';

let access: LabAccess;
const profile = profileFromEnvironment();
const components = componentsOf(profile);

async function kubectl(...args: string[]): Promise<string> {
  return (await access.kubectl(args)).stdout;
}

/** Polls until it holds; the description of what was seen last is the error. */
async function until(what: string, seconds: number, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function names(kind: string, like: string): Promise<string[]> {
  const all = (await kubectl('-n', 'resource', 'get', kind, '-o', 'name')).split('\n').filter(Boolean);
  return all.map((name) => name.slice(name.indexOf('/') + 1)).filter((name) => name.includes(like));
}

async function ready(statefulSet: string, replicas: number): Promise<void> {
  await until(`${statefulSet} ready`, 120, async () => {
    const template = '{.status.readyReplicas}';
    const get = [
      '-n',
      'resource',
      'get',
      'statefulset',
      statefulSet,
      '-o',
      `jsonpath=${template}`,
      '--ignore-not-found',
    ];
    return (await kubectl(...get)) === String(replicas);
  });
}

async function scale(namespace: string, workload: string, replicas: number): Promise<void> {
  await kubectl('-n', namespace, 'scale', workload, `--replicas=${replicas}`);
}

async function apply(object: object): Promise<void> {
  await access.kubectl(['apply', '-f', '-'], { input: JSON.stringify(object) });
}

function component(name: string): Component {
  const found = components.find((one) => one.name === name);
  if (found === undefined) throw new Error(`${name} is not in profile ${profile}`);
  return found;
}

async function ledger(): Promise<LedgerVerdict> {
  return checkLedger(access, components);
}

async function clientGone(): Promise<void> {
  const get = ['-n', 'anyshare', 'get', 'pods', '-l', 'app=ledger-client', '-o', 'name'];
  await until('client gone', 60, async () => (await kubectl(...get)) === '');
}

const hosts = ['old1', 'old2', 'old3'];

beforeAll(async () => {
  access = accessFromEnvironment();
  const present = await kubectl(
    '-n',
    'anyshare',
    'get',
    'deployment',
    'ledger-client',
    '-o',
    'name',
    '--ignore-not-found',
  );
  if (present === '') await installPlatform(access, { profile, method: 'helm', dataMegabytes: 4 });
});

describe('the ledger', () => {
  it('grows while the client runs, for every ordinal, and everything acknowledged is found', async () => {
    const before = await ledger();
    await new Promise((resolve) => setTimeout(resolve, 5000));

    const after = await ledger();

    const ordinals = components
      .flatMap(({ hosts: count, sources }) => sources.map(() => count))
      .reduce((a, b) => a + b, 0);
    expect(after.acknowledged - before.acknowledged).toBeGreaterThanOrEqual(2 * ordinals);
    expect(after, describeVerdict(after)).toMatchObject({ missingCount: 0, differentTrees: [], unreadable: [] });
    expect(after.trees).toBeGreaterThan(0);
  });

  it('loses nothing when servers are killed while they write', async () => {
    const pods = components.flatMap(({ sources }) => sources.map(({ statefulSet }) => `${statefulSet}-0`));
    await kubectl('-n', 'resource', 'delete', 'pod', ...pods, '--grace-period=0', '--force', '--wait=false');
    for (const { sources, hosts: count } of components)
      for (const source of sources) await ready(source.statefulSet, count);

    const verdict = await ledger();

    expect(verdict, describeVerdict(verdict)).toMatchObject({ missingCount: 0, differentTrees: [], unreadable: [] });
  });

  describe.each([
    { statefulSet: 'zookeeper', name: 'zookeeper', replicas: 3 },
    { statefulSet: 'mariadb-mariadb', name: 'mariadb', replicas: 3 },
  ])('with the data of one $name away', ({ statefulSet, name, replicas }) => {
    const machine = { name: 'old2', address: '10.77.0.12' };
    const path = component(name).dataPath;
    const operator = [
      'proton-rds-mariadb-operator-system',
      'deployment/proton-rds-mariadb-operator-controller-manager',
    ] as const;

    beforeAll(async () => {
      // what it wrote onto the empty directory would be gone with it
      await scale('anyshare', 'deployment/ledger-client', 0);
      await clientGone();
      // or it would put the replicas back
      if (name === 'mariadb') await scale(...operator, 0);
      await scale('resource', `statefulset/${statefulSet}`, 0);
      await until('no pods', 60, async () => (await names('pods', `${statefulSet}-`)).length === 0);
      await access.onMachine(machine, ['sh', '-c', `mv ${path} ${path}.away && mkdir ${path}`]);
      await scale('resource', `statefulset/${statefulSet}`, replicas);
      await ready(statefulSet, replicas);
    });

    afterAll(async () => {
      await scale('resource', `statefulset/${statefulSet}`, 0);
      await until('no pods', 60, async () => (await names('pods', `${statefulSet}-`)).length === 0);
      await access.onMachine(machine, ['sh', '-c', `rm -rf ${path} && mv ${path}.away ${path}`]);
      await scale('resource', `statefulset/${statefulSet}`, replicas);
      if (name === 'mariadb') await scale(...operator, 1);
      await ready(statefulSet, replicas);
      await scale('anyshare', 'deployment/ledger-client', 1);
    });

    it('starts without a complaint on the empty directory, and the ledger names what is missing', async () => {
      const verdict = await ledger();

      expect(verdict.missingCount).toBeGreaterThan(0);
      expect(verdict.missing.every((record) => record.startsWith(`${name}-1/`))).toBe(true);
    });
  });

  it('is complete again once the data is back', async () => {
    const verdict = await ledger();
    expect(verdict, describeVerdict(verdict)).toMatchObject({ missingCount: 0, differentTrees: [], unreadable: [] });
  });
});

describe('operators', () => {
  const mariadb = ['-n', 'resource', 'rdsmariadbclusters.rds.proton.aishu.cn', 'mariadb'];

  async function deleteResource(reference: readonly string[]): Promise<void> {
    const [flag = '', namespace = '', kind = '', name = ''] = reference;
    await kubectl(flag, namespace, 'delete', kind, name, '--wait=false');
  }

  async function resourceGone(reference: readonly string[]): Promise<boolean> {
    const [flag = '', namespace = '', kind = '', name = ''] = reference;
    return (await kubectl(flag, namespace, 'get', kind, name, '-o', 'name', '--ignore-not-found')) === '';
  }

  it('mariadb: claims carry no labels, the resource carries both finalizers, the master service has one endpoint', async () => {
    const claims = JSON.parse(
      await kubectl('-n', 'resource', 'get', 'pvc', 'mariadb-datadir-mariadb-mariadb-0', '-o', 'json'),
    ) as {
      metadata: { labels?: object };
    };
    expect(claims.metadata.labels).toBeUndefined();
    const [flag = '', namespace = '', kind = '', name = ''] = mariadb;
    expect(await kubectl(flag, namespace, 'get', kind, name, '-o', 'jsonpath={.metadata.finalizers}')).toBe(
      '["delete-storage","delete-app"]',
    );
    await until('one endpoint', 60, async () => {
      const get = [
        '-n',
        'resource',
        'get',
        'endpoints',
        'mariadb-mariadb-master',
        '-o',
        'jsonpath={.subsets[*].addresses[*].ip}',
      ];
      return (await kubectl(...get)).split(' ').filter(Boolean).length === 1;
    });
  });

  it('mariadb: with the operator down a deletion hangs on the finalizers; up again it removes claims and volumes by name', async () => {
    const operator = [
      'proton-rds-mariadb-operator-system',
      'deployment/proton-rds-mariadb-operator-controller-manager',
    ] as const;
    await scale(...operator, 0);
    await until(
      'operator gone',
      60,
      async () => (await kubectl('-n', operator[0], 'get', 'pods', '-o', 'name')) === '',
    );
    await deleteResource(mariadb);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    expect(await resourceGone(mariadb)).toBe(false);
    expect(await names('pvc', 'mariadb-datadir')).toHaveLength(3);

    await scale(...operator, 1);

    await until('resource gone', 90, () => resourceGone(mariadb));
    await until('claims gone', 90, async () => (await names('pvc', 'mariadb-datadir')).length === 0);
    await until('volumes gone', 60, async () => (await names('pv', 'resource-mariadb-mariadb-pv')).length === 0);
    expect(await names('statefulsets', 'mariadb-mariadb')).toEqual([]);

    await apply(customResource(component('mariadb'), hosts));
    await ready('mariadb-mariadb', 3);
    const verdict = await ledger();
    expect(verdict, describeVerdict(verdict)).toMatchObject({ missingCount: 0, unreadable: [] });
  });

  it('mongodb: claims and volumes survive the resource, and keep the old node when it comes back with another', async () => {
    const mongodb = ['-n', 'resource', 'mongodboperators.mongodb.proton.aishu.cn', 'mongodb'];
    await deleteResource(mongodb);
    await until('resource gone', 60, () => resourceGone(mongodb));
    await until('pods gone', 90, async () => (await names('pods', 'mongodb-mongodb-')).length === 0);
    expect(await names('pvc', 'mongodb-datadir')).toHaveLength(3);
    expect(await names('pv', 'mongodb-mongodb-resource')).toHaveLength(3);

    await apply(customResource(component('mongodb'), ['old3', 'old2', 'old1']));
    await ready('mongodb-mongodb', 3);

    const node = ['-n', 'resource', 'get', 'pod', 'mongodb-mongodb-0', '-o', 'jsonpath={.spec.nodeName}'];
    expect(await kubectl(...node)).toBe('old1');
    await apply(customResource(component('mongodb'), hosts));
  });

  it('mariadb: a leftover volume that cannot be changed counts as success and keeps the old node', async () => {
    await deleteResource(mariadb);
    await until('resource gone', 90, () => resourceGone(mariadb));
    await until('volumes gone', 90, async () => (await names('pv', 'resource-mariadb-mariadb-pv')).length === 0);
    const leftover = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: 'resource-mariadb-mariadb-pv-0', labels: { app: 'mariadb-mariadb', podindex: '0' } },
      spec: {
        capacity: { storage: '1Gi' },
        accessModes: ['ReadWriteOnce'],
        persistentVolumeReclaimPolicy: 'Retain',
        storageClassName: '',
        local: { path: component('mariadb').dataPath },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['elsewhere'] }] },
            ],
          },
        },
      },
    };
    await apply(leftover);

    await apply(customResource(component('mariadb'), hosts));

    await until('reconciled', 60, async () => {
      const [flag = '', namespace = '', kind = '', name = ''] = mariadb;
      return (await kubectl(flag, namespace, 'get', kind, name, '-o', 'jsonpath={.metadata.finalizers}')).includes(
        'delete-app',
      );
    });
    const pending = ['-n', 'resource', 'get', 'pod', 'mariadb-mariadb-0', '-o', 'jsonpath={.status.phase}'];
    expect(await kubectl(...pending)).toBe('Pending');
    await deleteResource(mariadb);
    await until('volumes gone', 90, async () => (await names('pv', 'resource-mariadb-mariadb-pv')).length === 0);
    await until('resource gone', 60, () => resourceGone(mariadb));
    await apply(customResource(component('mariadb'), hosts));
    await ready('mariadb-mariadb', 3);
  });
});
