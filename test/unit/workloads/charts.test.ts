import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify, parseAllDocuments } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureParts, partFolder } from '../../../lab/build/parts.ts';
import { chartValues } from '../../../lab/workloads/platform.ts';
import { components } from '../../../lab/workloads/components.ts';
import { run } from '../../../lab/workloads/run.ts';
import { chartsFolder, listCharts, stageChart } from '../../../lab/workloads/service-package.ts';

interface Recorded {
  release: string;
  objects: Record<string, unknown>[];
}
const recorded = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../../fixtures/platform-data/chart-objects.json'), 'utf8')) as {
    charts: Record<string, Recorded>;
  }
).charts;

interface Rendered {
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  spec?: any;
}

/* eslint-disable @typescript-eslint/no-unsafe-assignment, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-call, @typescript-eslint/no-unsafe-return, @typescript-eslint/no-unsafe-argument, @typescript-eslint/no-explicit-any */

/** The facts that chart-objects.json records of an object. */
function facts(object: Rendered): Record<string, unknown> {
  const { kind, metadata, spec } = object;
  const out: Record<string, unknown> = { kind, name: metadata.name };
  const keep = (key: string, value: unknown): void => {
    if (value !== undefined && value !== null) out[key] = value;
  };
  keep('namespace', metadata.namespace);
  const names = (containers: any[] | undefined): string[] | undefined => containers?.map((container) => container.name);
  if (kind === 'PersistentVolume') {
    keep('labels', metadata.labels);
    keep('capacity', spec.capacity);
    keep('reclaim', spec.persistentVolumeReclaimPolicy);
    keep('storageClassName', spec.storageClassName);
    keep('path', spec.local.path);
    keep('volume', 'local');
    keep('affinity', spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions);
  }
  if (kind === 'PersistentVolumeClaim') {
    keep('labels', metadata.labels);
    keep('selector', spec.selector);
    keep('storageClassName', spec.storageClassName);
    keep('request', spec.resources.requests);
  }
  if (kind === 'StatefulSet' || kind === 'Deployment' || kind === 'DaemonSet') {
    const pod = spec.template;
    keep('replicas', spec.replicas);
    keep('podManagementPolicy', spec.podManagementPolicy);
    keep('serviceName', spec.serviceName);
    keep('updateStrategy', spec.updateStrategy);
    keep('selector', spec.selector);
    keep('podLabels', pod.metadata.labels);
    keep('grace', pod.spec.terminationGracePeriodSeconds);
    keep('podSecurity', pod.spec.securityContext);
    keep('containers', names(pod.spec.containers));
    keep('initContainers', names(pod.spec.initContainers));
    keep('hostNetwork', pod.spec.hostNetwork);
    const hostPaths = (pod.spec.volumes ?? []).flatMap((volume: any) => volume.hostPath?.path ?? []);
    if (hostPaths.length > 0) keep('hostPaths', hostPaths);
    keep(
      'volumeClaimTemplates',
      spec.volumeClaimTemplates?.map((template: any) => ({
        name: template.metadata.name,
        labels: template.metadata.labels ?? null,
        selector: template.spec.selector ?? null,
        storageClassName: template.spec.storageClassName ?? null,
      })),
    );
  }
  return out;
}

let staged: string;
beforeAll(async () => {
  // on a fresh machine helm is built here, which takes minutes
  await ensureParts(['helm']);
  staged = await mkdtemp(join(tmpdir(), 'charts-'));
  for (const { name } of await listCharts()) await stageChart(name, staged);
}, 900_000);
afterAll(() => rm(staged, { recursive: true, force: true }));

async function render(chart: string, release: string, values: object): Promise<Rendered[]> {
  const command = [
    join(partFolder('helm'), 'helm3'),
    'template',
    release,
    join(staged, chart),
    '-n',
    'resource',
    '-f',
    '-',
  ];
  const { stdout } = await run(command, { input: stringify(values) });
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as Rendered | null)
    .filter((object) => object !== null);
}

const sorted = (objects: Record<string, unknown>[]): Record<string, unknown>[] =>
  objects.toSorted((a, b) =>
    `${String(a['kind'])}/${String(a['name'])}`.localeCompare(`${String(b['kind'])}/${String(b['name'])}`),
  );

describe('charts of the lab', () => {
  it('exist for each chart that was recorded', async () => {
    const names = (await listCharts()).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(Object.keys(recorded)));
    expect(names).toHaveLength(Object.keys(recorded).length + 4);
  });

  it.each(Object.entries(recorded))(
    '%s renders the objects that were recorded',
    async (chart, { release, objects }) => {
      const version = (await listCharts()).find(({ name }) => name === chart)?.version ?? '';
      const local = Object.fromEntries(
        [1, 2, 3].map((n, index) => [String(index), { host: `node-${n}`, path: '/sysvol/x' }]),
      );
      const values = { replicaCount: 3, namespace: 'resource', storage: { local, storageClassName: '' } };

      const rendered = await render(chart, release, values);

      const wanted = JSON.parse(
        JSON.stringify(objects).replaceAll(`${chart}-0.0.0`, `${chart}-${version}`),
      ) as typeof objects;
      expect(sorted(rendered.map(facts))).toEqual(sorted(wanted));
    },
  );

  it.each(components.filter(({ release }) => release !== undefined))(
    '$name: the values the platform passes give one volume per host with its path',
    async (component) => {
      const hosts = ['old1', 'old2', 'old3'].slice(0, component.hosts);
      const { release } = component;

      const rendered = await render(release?.chart ?? '', release?.name ?? '', chartValues(component, hosts));

      const volumes = rendered.filter(({ kind }) => kind === 'PersistentVolume').map(facts);
      expect(volumes.map(({ path }) => path)).toEqual(hosts.map(() => component.dataPath));
      expect(volumes.map(({ affinity }) => (affinity as { values: string[] }[])[0]?.values)).toEqual(
        hosts.map((host) => [host]),
      );
      const sets = rendered.filter(({ kind }) => kind === 'StatefulSet').map(({ metadata }) => metadata.name);
      for (const { statefulSet } of component.sources) expect(sets).toContain(statefulSet);
    },
  );

  it.each(['proton-redis', 'proton-etcd', 'proton-mq-nsq', 'proton-policy-engine', 'proton-package-store'])(
    '%s knows three indexes only, as the platform’s',
    async (chart) => {
      const local = Object.fromEntries(
        [0, 1, 2, 3].map((index) => [String(index), { host: `node-${index}`, path: '/x' }]),
      );

      const rendered = await render(chart, 'r', { replicaCount: 4, storage: { local } });

      expect(rendered.filter(({ kind }) => kind === 'PersistentVolume')).toHaveLength(3);
    },
  );

  it('without local storage but with a storage class has no volumes of its own', async () => {
    const rendered = await render('proton-kafka', 'kafka', { storage: { storageClassName: 'fast' } });
    expect(rendered.filter(({ kind }) => kind.startsWith('Persistent'))).toEqual([]);
  });

  it.each([
    ['rds-mariadb-operator', 'proton-rds-mariadb-operator', 'rdsmariadbclusters.rds.proton.aishu.cn'],
    ['mongodb-operator', 'proton-mongodb-operator', 'mongodboperators.mongodb.proton.aishu.cn'],
    ['nebula-operator', 'proton-nebula-operator', 'nebulaclusters.apps.nebula-graph.io'],
  ])('%s puts its objects into the namespace of the platform, whatever the release’s', async (chart, prefix, crd) => {
    const rendered = await render(chart, chart, {});

    const deployment = rendered.find(({ kind }) => kind === 'Deployment');
    expect(deployment?.metadata).toMatchObject({ name: `${prefix}-controller-manager`, namespace: `${prefix}-system` });
    expect(readFileSync(join(chartsFolder, chart, 'crds', 'crd.yaml'), 'utf8')).toContain(`name: ${crd}`);
  });
});
