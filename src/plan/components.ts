import type { ComponentKind } from './plan.ts';

/** What the names of Kubernetes objects depend on besides the ordinal. */
export interface NameContext {
  /** Namespace of component-manage and of most components; `platform.resourceNamespace` of the plan. */
  resourceNamespace: string;
  /** `opensearch.mode` of the configuration; part of its object names. Absent: `master`. */
  opensearchMode?: string;
}

export interface HelmWorkload {
  type: 'helm';
  release: string;
}

export interface CustomResourceWorkload {
  type: 'custom-resource';
  apiVersion: string;
  group: string;
  version: string;
  plural: string;
  kind: string;
  name: string;
  operator: { namespace: string; deployment: string };
  /** Whether deleting the custom resource makes its operator delete PVCs and PVs. */
  removesVolumes: 'yes' | 'no' | 'unknown';
}

/** Objects of a component whose names the platform does not document: they are found by name pattern in the live cluster. */
export interface RunTimeObjects {
  /** Matches names of claims; group `part` and group `ordinal`. */
  claim: RegExp;
  /** Matches names of pods; group `part` and group `ordinal`. */
  pod: RegExp;
  /** Matches names of StatefulSets (of whichever API group); group `part`. */
  statefulSet: RegExp;
  /** The part whose objects stand for an ordinal in the plan. */
  mainPart: string;
}

export interface ComponentRow {
  kind: ComponentKind;
  /** Section of `proton-cli-config`. */
  section: string;
  /** Key in the Secret `persist-component-manage-components` and component-manage's type; absent: recorded in `proton-cli-config` only. */
  persist?: { key: string; type: string };
  /** `resource`: the resource namespace of the plan. */
  namespace: 'resource' | 'kube-system';
  workload: HelmWorkload | CustomResourceWorkload;
  /** Name of the chart in the dependency package: of the component, or of its operator. */
  chart: string;
  /** StatefulSets whose pods hold the volumes. Empty: `runTime` tells how they are found. */
  statefulSets(context: NameContext): string[];
  pod(ordinal: number, context: NameContext): string;
  pvc(ordinal: number, context: NameContext): string;
  pv(ordinal: number, context: NameContext): string;
  runTime?: RunTimeObjects;
  /** Where the directory stands in the section; the first one is the one that is read. */
  dataPath: readonly (readonly string[])[];
  /** Where hosts stand once more as `{"<ordinal>": {host, path}}`. */
  localVolumes?: readonly string[];
  /** Directory when the configuration names none. */
  defaultDataPath: string;
  /** Paths below the data directory that show that data is there: of every group at least one pattern (shell globs) must match. */
  sentinels: readonly (readonly string[])[];
  podManagement: 'Parallel' | 'OrderedReady';
  /** terminationGracePeriodSeconds of its pods. */
  graceSeconds: number;
  /** Numbers of hosts the platform accepts; `any`: one or more. */
  replicaCounts: readonly number[] | 'any';
}

const helm = (release: string): HelmWorkload => ({ type: 'helm', release });
const named =
  (name: string): ((context: NameContext) => string[]) =>
  () => [name];
const numbered =
  (prefix: string): ((ordinal: number) => string) =>
  (ordinal) =>
    `${prefix}-${ordinal}`;
const opensearchName = (context: NameContext): string => `opensearch-${context.opensearchMode ?? 'master'}`;

/** One row per kind of component: everything the rest of the program knows about it stands here. */
export const componentTable: Readonly<Record<ComponentKind, ComponentRow>> = {
  mariadb: {
    kind: 'mariadb',
    section: 'proton_mariadb',
    persist: { key: 'mariadb', type: 'mariadb' },
    namespace: 'resource',
    workload: {
      type: 'custom-resource',
      apiVersion: 'rds.proton.aishu.cn/v1',
      group: 'rds.proton.aishu.cn',
      version: 'v1',
      plural: 'rdsmariadbclusters',
      kind: 'RDSMariaDBCluster',
      name: 'mariadb',
      operator: {
        namespace: 'proton-rds-mariadb-operator-system',
        deployment: 'proton-rds-mariadb-operator-controller-manager',
      },
      removesVolumes: 'yes',
    },
    chart: 'rds-mariadb-operator',
    statefulSets: named('mariadb-mariadb'),
    pod: numbered('mariadb-mariadb'),
    pvc: numbered('mariadb-datadir-mariadb-mariadb'),
    pv: (ordinal, context) => `${context.resourceNamespace}-mariadb-mariadb-pv-${ordinal}`,
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/mariadb',
    // grastate.dat exists on Galera members only, so a single server may lack it.
    sentinels: [['mysql']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: 'any',
  },
  mongodb: {
    kind: 'mongodb',
    section: 'proton_mongodb',
    persist: { key: 'mongodb', type: 'mongodb' },
    namespace: 'resource',
    workload: {
      type: 'custom-resource',
      apiVersion: 'mongodb.proton.aishu.cn/v1',
      group: 'mongodb.proton.aishu.cn',
      version: 'v1',
      plural: 'mongodboperators',
      kind: 'MongodbOperator',
      name: 'mongodb',
      operator: {
        namespace: 'proton-mongodb-operator-system',
        deployment: 'proton-mongodb-operator-controller-manager',
      },
      removesVolumes: 'no',
    },
    chart: 'mongodb-operator',
    statefulSets: named('mongodb-mongodb'),
    pod: numbered('mongodb-mongodb'),
    pvc: numbered('mongodb-datadir-mongodb-mongodb'),
    pv: (ordinal, context) => `mongodb-mongodb-${context.resourceNamespace}-${ordinal}`,
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/mongodb/mongodb_data',
    sentinels: [['WiredTiger', '*/WiredTiger']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: [1, 3],
  },
  redis: {
    kind: 'redis',
    section: 'proton_redis',
    persist: { key: 'proton-redis', type: 'redis' },
    namespace: 'resource',
    workload: helm('proton-redis'),
    chart: 'proton-redis',
    statefulSets: named('proton-redis-proton-redis'),
    pod: numbered('proton-redis-proton-redis'),
    pvc: numbered('redis-datadir-proton-redis-proton-redis'),
    pv: numbered('proton-redis-proton-redis'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/redis/redis_data',
    sentinels: [['appendonly*', 'dump.rdb', '*/appendonly*', '*/dump.rdb']],
    podManagement: 'OrderedReady',
    graceSeconds: 30,
    replicaCounts: [1, 3],
  },
  kafka: {
    kind: 'kafka',
    section: 'kafka',
    persist: { key: 'kafka', type: 'kafka' },
    namespace: 'resource',
    workload: helm('kafka'),
    chart: 'proton-kafka',
    statefulSets: named('kafka'),
    pod: numbered('kafka'),
    pvc: numbered('data-kafka'),
    pv: numbered('data-kafka'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/kafka/kafka_data',
    // Where below the data directory the log directory stands is not documented.
    sentinels: [['meta.properties', '*/meta.properties', '*/*/meta.properties']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: 'any',
  },
  zookeeper: {
    kind: 'zookeeper',
    section: 'zookeeper',
    persist: { key: 'zookeeper', type: 'zookeeper' },
    namespace: 'resource',
    workload: helm('zookeeper'),
    chart: 'proton-zookeeper',
    statefulSets: named('zookeeper'),
    pod: numbered('zookeeper'),
    pvc: numbered('data-zookeeper'),
    pv: numbered('data-zookeeper'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/zookeeper/zookeeper_data',
    sentinels: [
      ['myid', '*/myid'],
      ['version-2', '*/version-2'],
    ],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: [1, 3],
  },
  opensearch: {
    kind: 'opensearch',
    section: 'opensearch',
    persist: { key: 'opensearch', type: 'opensearch' },
    namespace: 'resource',
    workload: helm('opensearch-master'),
    chart: 'proton-opensearch',
    statefulSets: (context) => [opensearchName(context)],
    pod: (ordinal, context) => `${opensearchName(context)}-${ordinal}`,
    pvc: (ordinal, context) => `data-${opensearchName(context)}-${ordinal}`,
    pv: (ordinal, context) => `data-${opensearchName(context)}-${ordinal}`,
    dataPath: [['data_path']],
    defaultDataPath: '/anyshare/opensearch',
    sentinels: [['nodes', '*/nodes']],
    podManagement: 'Parallel',
    graceSeconds: 120,
    replicaCounts: 'any',
  },
  etcd: {
    kind: 'etcd',
    section: 'proton_etcd',
    persist: { key: 'proton-etcd', type: 'etcd' },
    namespace: 'resource',
    workload: helm('proton-etcd'),
    chart: 'proton-etcd',
    statefulSets: named('proton-etcd'),
    pod: numbered('proton-etcd'),
    pvc: numbered('data-proton-etcd'),
    pv: numbered('proton-etcd'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/proton-etcd/proton-etcd_data',
    sentinels: [['member', '*/member']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: [1, 2, 3],
  },
  nsq: {
    kind: 'nsq',
    section: 'proton_mq_nsq',
    namespace: 'resource',
    workload: helm('proton-mq-nsq'),
    chart: 'proton-mq-nsq',
    statefulSets: named('proton-mq-nsq-nsqd'),
    pod: numbered('proton-mq-nsq-nsqd'),
    pvc: numbered('proton-mq-nsq-datadir-proton-mq-nsq-nsqd'),
    pv: numbered('proton-mq-nsq-nsqd'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/mq-nsq/mq-nsq_data',
    sentinels: [['nsqd.dat', '*/nsqd.dat']],
    podManagement: 'Parallel',
    graceSeconds: 5,
    replicaCounts: [1, 3],
  },
  'policy-engine': {
    kind: 'policy-engine',
    section: 'proton_policy_engine',
    persist: { key: 'proton-policy-engine', type: 'policyengine' },
    namespace: 'resource',
    workload: helm('proton-policy-engine'),
    chart: 'proton-policy-engine',
    statefulSets: named('proton-policy-engine-proton-policy-engine'),
    pod: numbered('proton-policy-engine-proton-policy-engine'),
    pvc: numbered('policy-engine-datadir-proton-policy-engine-proton-policy-engine'),
    pv: numbered('proton-policy-engine-proton-policy-engine'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/policy-engine/policy-engine_data',
    sentinels: [],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: [1, 3],
  },
  nebula: {
    kind: 'nebula',
    section: 'nebula',
    persist: { key: 'nebula', type: 'nebula' },
    namespace: 'resource',
    workload: {
      type: 'custom-resource',
      apiVersion: 'apps.nebula-graph.io/v1alpha1',
      group: 'apps.nebula-graph.io',
      version: 'v1alpha1',
      plural: 'nebulaclusters',
      kind: 'NebulaCluster',
      name: 'nebula',
      operator: {
        namespace: 'proton-nebula-operator-system',
        deployment: 'proton-nebula-operator-controller-manager',
      },
      removesVolumes: 'unknown',
    },
    chart: 'nebula-operator',
    // The usual names; the operator's own are looked up in the live cluster (`runTime`).
    statefulSets: () => ['nebula-graphd', 'nebula-metad', 'nebula-storaged'],
    pod: numbered('nebula-storaged'),
    pvc: numbered('storaged-data-nebula-storaged'),
    pv: numbered('storaged-data-nebula-storaged'),
    runTime: {
      claim: /^(?:.+-)?nebula-(?<part>graphd|metad|storaged)-(?<ordinal>\d+)$/,
      pod: /^nebula-(?<part>graphd|metad|storaged)-(?<ordinal>\d+)$/,
      statefulSet: /^nebula-(?<part>graphd|metad|storaged)$/,
      mainPart: 'storaged',
    },
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/nebula',
    sentinels: [['data/metad'], ['data/graphd/0']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: 'any',
  },
  prometheus: {
    kind: 'prometheus',
    section: 'prometheus',
    namespace: 'resource',
    workload: helm('prometheus'),
    chart: 'proton-prometheus',
    statefulSets: named('prometheus'),
    pod: numbered('prometheus'),
    pvc: numbered('data-prometheus'),
    pv: numbered('data-prometheus'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/prometheus',
    sentinels: [['wal', '*/wal']],
    podManagement: 'Parallel',
    graceSeconds: 300,
    replicaCounts: [1, 2],
  },
  grafana: {
    kind: 'grafana',
    section: 'grafana',
    namespace: 'resource',
    workload: helm('grafana'),
    chart: 'proton-grafana',
    statefulSets: named('grafana'),
    pod: numbered('grafana'),
    pvc: numbered('data-grafana'),
    pv: numbered('data-grafana'),
    dataPath: [['data_path']],
    defaultDataPath: '/sysvol/grafana',
    sentinels: [['grafana.db', '*/grafana.db']],
    podManagement: 'Parallel',
    graceSeconds: 30,
    replicaCounts: [1],
  },
  'package-store': {
    kind: 'package-store',
    section: 'package-store',
    namespace: 'resource',
    workload: helm('proton-package-store'),
    chart: 'proton-package-store',
    statefulSets: named('proton-package-store'),
    pod: numbered('proton-package-store'),
    pvc: numbered('package-store-datadir-proton-package-store'),
    pv: numbered('proton-package-store'),
    dataPath: [['storage', 'path']],
    defaultDataPath: '/sysvol/package-store',
    sentinels: [],
    podManagement: 'OrderedReady',
    graceSeconds: 5,
    replicaCounts: [1, 2, 3],
  },
  'proton-monitor': {
    kind: 'proton-monitor',
    section: 'proton_monitor',
    namespace: 'kube-system',
    workload: helm('proton-monitor'),
    chart: 'proton-monitor',
    statefulSets: named('proton-monitor'),
    pod: numbered('proton-monitor'),
    pvc: numbered('data-proton-monitor'),
    pv: numbered('data-proton-monitor'),
    dataPath: [['data_path']],
    localVolumes: ['storage', 'local'],
    defaultDataPath: '/sysvol/proton_data/monitor',
    sentinels: [],
    podManagement: 'OrderedReady',
    graceSeconds: 30,
    replicaCounts: 'any',
  },
};

/** All rows, in the order of the table. */
export const componentRows: readonly ComponentRow[] = Object.values(componentTable);

/** The namespace a component's objects live in. */
export function componentNamespace(row: ComponentRow, context: NameContext): string {
  return row.namespace === 'resource' ? context.resourceNamespace : row.namespace;
}

/** Whether the platform takes this many hosts for the component. */
export function acceptsReplicas(row: ComponentRow, count: number): boolean {
  return row.replicaCounts === 'any' ? count >= 1 : row.replicaCounts.includes(count);
}
