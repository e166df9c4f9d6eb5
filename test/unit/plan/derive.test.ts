import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { componentTable } from '../../../src/plan/components.ts';
import { componentFacts, configFacts } from '../../../src/plan/config-facts.ts';
import type { Answers } from '../../../src/plan/derive.ts';
import { derivePlan, PlanNotPossible } from '../../../src/plan/derive.ts';
import type { Facts } from '../../../src/plan/facts.ts';
import { estimateOnline } from '../../../src/plan/projection.ts';
import { parsePlanData } from '../../../src/plan/validate.ts';
import { recordedConfig, sampleComponents } from './samples.ts';

function records(): Record<string, string> {
  return Object.fromEntries(
    sampleComponents().flatMap(({ kind, dataPath, replicas }) => {
      const { persist } = componentTable[kind];
      if (persist === undefined) return [];
      const params = { hosts: replicas.map((replica) => replica.from), data_path: dataPath, admin_passwd: 'hunter2' };
      return [[persist.key, stringify({ name: persist.key, version: '1.2.3', params })]];
    }),
  );
}

/** Facts of the recorded document `base` and three new machines, as they would be observed. */
function sampleFacts(document = recordedConfig('base')): Facts {
  const names = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5', 'node-6'];
  const components = componentFacts(document, records(), 'resource').map((component) => ({
    ...component,
    replicas: component.replicas.map((replica) => ({
      ...replica,
      live: { node: replica.host, volumeHost: replica.host, volumePath: component.dataPath!, reclaimPolicy: 'Retain' },
    })),
  }));
  return {
    takenAt: '2026-11-23T08:00:00Z',
    server: 'https://10.0.0.11:6443',
    configNamespace: 'proton',
    resourceNamespace: 'resource',
    kubernetesVersion: 'v1.34.1',
    nodes: names.slice(0, 3).map((name, index) => ({
      name,
      address: `10.0.0.${index + 11}`,
      controlPlane: true,
      ready: true,
      runtime: 'docker://20',
    })),
    config: configFacts(document),
    components,
    applicationNamespaces: ['anyshare'],
    hosts: names.map((name, index) => ({
      name,
      address: `10.0.0.${index + 11}`,
      port: 22,
      user: 'root',
      hostKeys: ['ssh-ed25519 AAAA'],
      role: 'other',
      packageVersion: 'ProtonDeps-3.8.0',
      units: ['kubelet.service'],
      packageDirectories: ['/opt/proton-package'],
    })),
    sources: components.flatMap(({ dataPath, replicas }) =>
      replicas.map(({ host }) => ({ host, path: dataPath!, bytes: 5_000_000_000, files: 1000 })),
    ),
    destinations: components.flatMap(({ dataPath, replicas }) =>
      replicas.map(({ ordinal }) => ({
        host: `node-${ordinal + 4}`,
        path: dataPath!,
        freeBytes: 1e12,
        freeInodes: 1e6,
      })),
    ),
  };
}

const answers: Answers = {
  cluster: 'sample',
  author: 'ops',
  createdAt: '2026-11-23T08:00:00Z',
  mapping: [
    { from: 'node-1', to: 'node-4' },
    { from: 'node-2', to: 'node-5' },
    { from: 'node-3', to: 'node-6' },
  ],
  containerRegistry: 're-push',
};

function refusal(facts: Facts, change: Partial<Answers> = {}): PlanNotPossible {
  try {
    derivePlan(facts, { ...answers, ...change });
  } catch (error) {
    if (error instanceof PlanNotPossible) return error;
    throw error;
  }
  throw new Error('a plan was made');
}

describe('facts of a configuration', () => {
  it('hold names, paths and hosts, and no secret', () => {
    const facts = JSON.stringify([
      configFacts(recordedConfig('base')),
      componentFacts(recordedConfig('base'), records(), 'resource'),
    ]);

    expect(facts).not.toMatch(/hunter2|invented/);
    expect(configFacts(recordedConfig('base'))).toEqual({
      nodes: [1, 2, 3].map((n) => ({ name: `node-${n}`, ip4: `10.0.0.1${n}` })),
      masters: ['node-1', 'node-2', 'node-3'],
      registryHosts: ['node-1', 'node-2'],
      registryStorage: '/sysvol/proton_data/cr_data',
      containerRuntime: 'docker',
      ecephHosts: [],
    });
  });
});

describe('a derived plan', () => {
  const { plan, notes } = derivePlan(sampleFacts(), answers);

  it('is valid and sealed', () => {
    expect(parsePlanData(plan, { registryHosts: ['node-1', 'node-2'] })).toEqual({ ok: true, plan });
    expect(notes).toEqual([]);
  });

  it('moves every component by the table', () => {
    expect(plan.components).toEqual(sampleComponents());
    expect(plan.transfers).toHaveLength(37);
    expect(plan.transfers[0]).toEqual({
      id: 'mariadb-0',
      subject: { type: 'component', component: 'mariadb', ordinal: 0 },
      source: { host: 'node-1', path: '/sysvol/mariadb' },
      destination: { host: 'node-4', path: '/sysvol/mariadb' },
      observed: { bytes: 5_000_000_000, files: 1000, freeBytes: 1e12 },
    });
    expect(plan.nodes.add[2]).toEqual({ name: 'node-6', ip4: '10.0.0.16', controlPlane: true });
    expect(plan.nodes.remove).toEqual(['node-1', 'node-2', 'node-3']);
    expect(plan.hosts.map((host) => host.role)).toEqual(['old', 'old', 'old', 'new', 'new', 'new']);
    expect(plan.platform).toMatchObject({
      controlHost: 'node-1',
      packageDirectory: '/opt/proton-package',
      containerRuntime: 'docker',
    });
    expect(plan.platform.versions).toMatchObject({
      kubernetes: 'v1.34.1',
      'package/node-6': 'ProtonDeps-3.8.0',
      'component/kafka': '1.2.3',
    });
  });

  it('copies the registry when told so', () => {
    const copied = derivePlan(sampleFacts(), { ...answers, containerRegistry: 'copy-data' }).plan;

    expect(
      copied.transfers.slice(-2).map(({ id, source, destination }) => [id, source.host, destination.host]),
    ).toEqual([
      ['host-node-1-cr-data', 'node-1', 'node-4'],
      ['host-node-2-cr-data', 'node-2', 'node-5'],
    ]);
    expect(copied.hostServices).toMatchObject({ hosts: ['node-1', 'node-2'] });
    expect(copied.hostServices.units).not.toContain('kubelet');
    expect(parsePlanData(copied)).toEqual({ ok: true, plan: copied });
  });

  it('of one node leaves the others in place', () => {
    const one = derivePlan(sampleFacts(), { ...answers, mapping: [{ from: 'node-3', to: 'node-6' }] });

    expect(
      one.plan.transfers.every(({ source, destination }) => source.host === 'node-3' && destination.host === 'node-6'),
    ).toBe(true);
    expect(one.plan.containerRegistry).toBe('re-push');
    expect(one.notes).toEqual(
      ['prometheus', 'grafana', 'proton-monitor'].map(
        (kind) => `${kind} has no replica on an old node and is not touched`,
      ),
    );
    expect(parsePlanData(one.plan)).toMatchObject({ ok: true });
  });

  it('switches a directory when told so', () => {
    const { plan: switched } = derivePlan(sampleFacts(), { ...answers, newDataPaths: { redis: '/data/redis' } });

    expect(switched.components.find(({ kind }) => kind === 'redis')).toMatchObject({
      dataPath: '/sysvol/redis/redis_data',
      newDataPath: '/data/redis',
    });
    expect(parsePlanData(switched)).toMatchObject({ ok: true });
  });
});

describe('what stands against a plan', () => {
  it('a registry without an answer', () => {
    const { questions, problems } = refusal(sampleFacts(), { containerRegistry: undefined } as never);
    expect(problems).toEqual([]);
    expect(questions.map(({ option, choices }) => [option, choices])).toEqual([
      ['--container-registry re-push|copy-data', ['re-push', 'copy-data']],
    ]);
  });

  it('a package that cannot be found', () => {
    const facts = sampleFacts();
    facts.hosts[0]!.packageDirectories = [];
    expect(refusal(facts).questions.map(({ option }) => option)).toEqual(['--package DIR']);
  });

  it.each<[string, (facts: Facts) => void, string]>([
    [
      'an unknown old node',
      (f) => (f.config.nodes = f.config.nodes.slice(1)),
      'node-1 is no node of the platform; its nodes are node-2, node-3',
    ],
    [
      'an unknown host key',
      (f) => (f.hosts[4]!.hostKeys = []),
      'no host key of node-5 (10.0.0.15) is known; after comparing it: ssh-keyscan 10.0.0.15 >> ~/.ssh/known_hosts',
    ],
    ['a machine that is away', (f) => (f.hosts[4]!.unreachable = 'no route'), 'node-5 cannot be reached: no route'],
    [
      'a taken address',
      (f) => (f.hosts[4]!.address = '10.0.0.12'),
      'node-5 has the address 10.0.0.12 of the node node-2',
    ],
    [
      'no address',
      (f) => (f.hosts[4]!.address = 'node-5'),
      'the IPv4 address of node-5 is not known: --host-address node-5=A.B.C.D',
    ],
    [
      'Secrets that differ',
      (f) => (f.components[0]!.recorded!.hosts = ['node-3', 'node-2', 'node-1']),
      'mariadb: proton-cli-config says hosts [node-1, node-2, node-3], component-manage recorded [node-3, node-2, node-1]; apply the configuration first',
    ],
    [
      'a volume elsewhere',
      (f) => (f.components[0]!.replicas[0]!.live.volumeHost = 'node-2'),
      'mariadb-0: volume resource-mariadb-mariadb-pv-0 is on node-2, the configuration says node-1',
    ],
    [
      'another directory',
      (f) => (f.components[0]!.replicas[0]!.live.volumePath = '/x'),
      'mariadb-0: volume resource-mariadb-mariadb-pv-0 is at /x, the configuration says /sysvol/mariadb',
    ],
    [
      'a volume that deletes its data',
      (f) => (f.components[0]!.replicas[0]!.live.reclaimPolicy = 'Delete'),
      'mariadb-0: volume resource-mariadb-mariadb-pv-0 has reclaim policy Delete; it must be Retain',
    ],
  ])('%s', (_what, change, problem) => {
    const facts = sampleFacts();
    change(facts);
    expect(refusal(facts).problems).toContain(problem);
  });

  it('a mapping that is no bijection', () => {
    const mapping = [
      { from: 'node-1', to: 'node-4' },
      { from: 'node-1', to: 'node-4' },
      { from: 'node-2', to: 'node-1' },
    ];
    expect(refusal(sampleFacts(), { mapping }).problems).toEqual(
      expect.arrayContaining([
        'node-1 is mapped twice',
        'node-4 would replace two nodes',
        'node-1 is an old and a new node',
      ]),
    );
  });
});

describe('where masters are members of etcd', () => {
  const stacked = (names: readonly string[]): Facts => {
    const facts = sampleFacts();
    for (const host of facts.hosts) host.staticControlPlane = names.includes(host.name);
    return facts;
  };

  it('the exchange of masters is part of the plan, and the package goes to the next control host', () => {
    const { plan, notes } = derivePlan(stacked(['node-1', 'node-2', 'node-3']), answers);

    expect(plan.controlPlane).toEqual({
      etcd: 'stacked',
      masters: ['node-1', 'node-2', 'node-3'],
      withoutSpare: 'refuse',
    });
    expect(plan.transfers.at(-1)).toEqual({
      id: 'host-node-1-package',
      subject: { type: 'host-service', service: 'package' },
      source: { host: 'node-1', path: '/opt/proton-package' },
      destination: { host: 'node-4', path: '/opt/proton-package' },
    });
    expect(notes).toEqual([]);
    expect(parsePlanData(plan, { registryHosts: ['node-1', 'node-2'] })).toEqual({ ok: true, plan });
  });

  it('the package stays when the control host stays', () => {
    const { plan } = derivePlan(stacked(['node-1', 'node-2', 'node-3']), { ...answers, removeOldNodes: false });

    expect(plan.transfers.filter(({ id }) => id.endsWith('-package'))).toEqual([]);
  });

  it('a master that does not look like the others is noted', () => {
    const { plan, notes } = derivePlan(stacked(['node-1', 'node-2']), answers);

    expect(plan.controlPlane?.masters).toEqual(['node-1', 'node-2', 'node-3']);
    expect(notes).toEqual([expect.stringContaining('node-3: master without static pods')]);
  });
});

describe('expected times', () => {
  it('of the first copy follow the fullest host and the limit', () => {
    const { plan } = derivePlan(sampleFacts(), answers);
    const { replicate } = estimateOnline(plan);
    // node-1 holds all 14 components.
    expect(replicate.seconds).toBeCloseTo(14 * ((5e9 + 1000 * 20_000) / (50_000 * 1024) + 5), 5);
    expect(replicate.errorSeconds).toBeCloseTo(replicate.seconds * 0.2, 5);
    const unlimited = estimateOnline({ ...plan, limits: { ...plan.limits, preCopyKiBps: 0 } });
    expect(unlimited.replicate.seconds).toBeLessThan(replicate.seconds);
  });
});
