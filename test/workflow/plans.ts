import type { ComponentKind, Plan, PlanInput } from '../../src/plan/plan.ts';
import { parsePlanData } from '../../src/plan/validate.ts';

const hostKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

export const author = 'wang';
export const oldHosts = ['old1', 'old2'] as const;
export const newHosts = ['new1', 'new2'] as const;

function host(name: string, role: 'old' | 'new'): PlanInput['hosts'][number] {
  return { name, address: `${name}.example`, hostKeys: [hostKey], role };
}

/** Kinds that the platform runs on one or three hosts only; here on one. */
const single: readonly ComponentKind[] = ['redis', 'zookeeper', 'mongodb', 'nsq', 'grafana'];

function hostsOf(kind: ComponentKind): readonly string[] {
  return single.includes(kind) ? oldHosts.slice(0, 1) : oldHosts;
}

function component(kind: ComponentKind): PlanInput['components'][number] {
  return {
    kind,
    namespace: 'resource',
    statefulSets: [kind],
    dataPath: `/sysvol/${kind}`,
    newDataPath: `/sysvol/${kind}`,
    replicas: hostsOf(kind).map((from, ordinal) => ({
      ordinal,
      from,
      to: newHosts[ordinal] ?? '',
      pod: `${kind}-${ordinal}`,
      pvc: `data-${kind}-${ordinal}`,
      pv: `${kind}-${ordinal}`,
    })),
  };
}

/** Two old and two new control-plane nodes, some components on both, one host directory; every test names its own cluster. */
export function planOf(
  cluster: string,
  change: Partial<PlanInput> = {},
  kinds: ComponentKind[] = ['redis', 'kafka', 'zookeeper', 'mariadb'],
): Plan {
  const componentTransfers = kinds.flatMap((kind) =>
    hostsOf(kind).map((from, ordinal) => ({
      id: `${kind}-${ordinal}`,
      subject: { type: 'component' as const, component: kind, ordinal },
      source: { host: from, path: `/sysvol/${kind}` },
      destination: { host: newHosts[ordinal] ?? '', path: `/sysvol/${kind}` },
      observed: { bytes: 1_000_000_000, files: 10, freeBytes: 10_000_000_000 },
    })),
  );
  const result = parsePlanData(
    {
      apiVersion: 'ferry.migration/v1',
      kind: 'MigrationPlan',
      cluster,
      author,
      createdAt: '2026-01-01T00:00:00Z',
      platform: { controlHost: 'old1', packageDirectory: '/opt/proton-package', containerRuntime: 'containerd' },
      hosts: [...oldHosts.map((name) => host(name, 'old')), ...newHosts.map((name) => host(name, 'new'))],
      mapping: oldHosts.map((from, index) => ({ from, to: newHosts[index] ?? '' })),
      nodes: {
        add: newHosts.map((name, index) => ({ name, ip4: `10.0.0.${21 + index}`, controlPlane: true })),
        remove: [...oldHosts],
      },
      components: kinds.map(component),
      transfers: [
        ...componentTransfers,
        {
          id: 'host-old2-registry',
          subject: { type: 'host-service' as const, service: 'proton-cr-registry' },
          source: { host: 'old2', path: '/sysvol/registry' },
          destination: { host: 'old2', path: '/data/registry' },
        },
      ],
      hostServices: { hosts: ['old2'] },
      applications: { namespaces: ['anyshare'] },
      images: { prewarm: true },
      notify: ['pager'],
      digest: `sha256:${'0'.repeat(64)}`,
      ...change,
    } satisfies PlanInput,
    { digest: 'ignore' },
  );
  if (!result.ok) {
    throw new Error(JSON.stringify(result.errors));
  }
  return result.plan;
}

/** Three masters that are members of etcd, and three new ones, with so many workers beside them; components on the first two. */
export function stackedPlanOf(cluster: string, change: Partial<PlanInput> = {}, workers = 0): Plan {
  const plain = planOf(cluster);
  const pairs = Array.from({ length: 3 + workers }, (_, index) => ({ from: `old${index + 1}`, to: `new${index + 1}` }));
  return planOf(cluster, {
    hosts: pairs.flatMap(({ from, to }) => [host(from, 'old'), host(to, 'new')]),
    mapping: pairs,
    nodes: {
      add: pairs.map(({ to }, index) => ({ name: to, ip4: `10.0.0.${21 + index}`, controlPlane: index < 3 })),
      remove: pairs.map(({ from }) => from),
    },
    controlPlane: { etcd: 'stacked', masters: pairs.slice(0, 3).map(({ from }) => from) },
    transfers: [
      ...plain.transfers,
      {
        id: 'host-old1-package',
        subject: { type: 'host-service', service: 'package' },
        source: { host: 'old1', path: '/opt/proton-package' },
        destination: { host: 'new1', path: '/opt/proton-package' },
      },
    ],
    ...change,
  });
}
