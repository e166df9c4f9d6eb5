/** The lab platform's components: where they come from, where their data lies and how to talk to them. */
import type { Profile } from './service-package.ts';

export type Protocol = 'writer' | 'redis' | 'etcd' | 'mariadb';

/** One StatefulSet that holds data. */
export interface Source {
  /** Name in the ledger. */
  component: string;
  namespace: string;
  statefulSet: string;
  port: number;
  protocol: Protocol;
  /** Secret with the account, in the same namespace. */
  secret?: string;
  user?: string;
  userKey?: string;
  passwordKey?: string;
  /** Whether a folder of files that are hard to move can be put beside its data. */
  seedable: boolean;
}

export interface Component {
  name: string;
  /** Helm release or custom resource. */
  release?: { name: string; chart: string; namespace: string };
  resource?: { operator: { name: string; chart: string; namespace: string } };
  /** Section of the cluster configuration. */
  section: string;
  /** Key in the Secret persist-component-manage-components, if component-manage keeps it. */
  key?: string;
  dataPath: string;
  /** How many of the three old machines hold it. */
  hosts: 1 | 2 | 3;
  sources: Source[];
  profiles: readonly Profile[];
}

const resource = 'resource';
const both: readonly Profile[] = ['small', 'full'];
const full: readonly Profile[] = ['full'];

function writer(component: string, statefulSet: string, port: number): Source {
  return { component, namespace: resource, statefulSet, port, protocol: 'writer', seedable: true };
}

export const components: readonly Component[] = [
  {
    name: 'redis',
    release: { name: 'proton-redis', chart: 'proton-redis', namespace: resource },
    section: 'proton_redis',
    key: 'proton-redis',
    dataPath: '/sysvol/redis/redis_data',
    hosts: 3,
    sources: [
      {
        component: 'redis',
        namespace: resource,
        statefulSet: 'proton-redis-proton-redis',
        port: 6379,
        protocol: 'redis',
        secret: 'proton-redis-proton-redis-secret',
        passwordKey: 'password',
        seedable: false,
      },
    ],
    profiles: both,
  },
  {
    name: 'etcd',
    release: { name: 'proton-etcd', chart: 'proton-etcd', namespace: resource },
    section: 'proton_etcd',
    key: 'proton-etcd',
    dataPath: '/sysvol/proton-etcd/proton-etcd_data',
    hosts: 3,
    sources: [
      {
        component: 'etcd',
        namespace: resource,
        statefulSet: 'proton-etcd',
        port: 2379,
        protocol: 'etcd',
        seedable: false,
      },
    ],
    profiles: both,
  },
  {
    name: 'zookeeper',
    release: { name: 'zookeeper', chart: 'proton-zookeeper', namespace: resource },
    section: 'zookeeper',
    key: 'zookeeper',
    dataPath: '/sysvol/zookeeper/zookeeper_data',
    hosts: 3,
    sources: [writer('zookeeper', 'zookeeper', 2181)],
    profiles: both,
  },
  {
    name: 'kafka',
    release: { name: 'kafka', chart: 'proton-kafka', namespace: resource },
    section: 'kafka',
    key: 'kafka',
    dataPath: '/sysvol/kafka/kafka_data',
    hosts: 3,
    sources: [writer('kafka', 'kafka', 9097)],
    profiles: both,
  },
  {
    name: 'opensearch',
    release: { name: 'opensearch-master', chart: 'proton-opensearch', namespace: resource },
    section: 'opensearch',
    key: 'opensearch',
    dataPath: '/anyshare/opensearch',
    hosts: 3,
    sources: [writer('opensearch', 'opensearch-master', 9200)],
    profiles: full,
  },
  {
    name: 'nsq',
    release: { name: 'proton-mq-nsq', chart: 'proton-mq-nsq', namespace: resource },
    section: 'proton_mq_nsq',
    dataPath: '/sysvol/mq-nsq/mq-nsq_data',
    hosts: 3,
    sources: [writer('nsq', 'proton-mq-nsq-nsqd', 4151)],
    profiles: full,
  },
  {
    name: 'policy-engine',
    release: { name: 'proton-policy-engine', chart: 'proton-policy-engine', namespace: resource },
    section: 'proton_policy_engine',
    key: 'proton-policy-engine',
    dataPath: '/sysvol/policy-engine/policy-engine_data',
    hosts: 3,
    sources: [writer('policy-engine', 'proton-policy-engine-proton-policy-engine', 9800)],
    profiles: full,
  },
  {
    name: 'prometheus',
    release: { name: 'prometheus', chart: 'proton-prometheus', namespace: resource },
    section: 'prometheus',
    dataPath: '/sysvol/prometheus',
    hosts: 2,
    sources: [writer('prometheus', 'prometheus', 9090)],
    // grafana needs it
    profiles: both,
  },
  {
    name: 'grafana',
    release: { name: 'grafana', chart: 'proton-grafana', namespace: resource },
    section: 'grafana',
    dataPath: '/sysvol/grafana',
    hosts: 1,
    sources: [writer('grafana', 'grafana', 3000)],
    profiles: both,
  },
  {
    name: 'package-store',
    release: { name: 'proton-package-store', chart: 'proton-package-store', namespace: resource },
    section: 'package-store',
    dataPath: '/sysvol/package-store',
    hosts: 3,
    sources: [writer('package-store', 'proton-package-store', 8080)],
    profiles: full,
  },
  {
    name: 'mariadb',
    resource: {
      operator: { name: 'rds-mariadb-operator', chart: 'rds-mariadb-operator', namespace: 'default' },
    },
    section: 'proton_mariadb',
    key: 'mariadb',
    dataPath: '/sysvol/mariadb',
    hosts: 3,
    sources: [
      {
        component: 'mariadb',
        namespace: resource,
        statefulSet: 'mariadb-mariadb',
        port: 3330,
        protocol: 'mariadb',
        secret: 'proton-mariadb-proton-rds',
        userKey: 'username',
        passwordKey: 'password',
        seedable: false,
      },
    ],
    profiles: both,
  },
  {
    name: 'mongodb',
    resource: { operator: { name: 'mongodb-operator', chart: 'mongodb-operator', namespace: resource } },
    section: 'proton_mongodb',
    key: 'mongodb',
    dataPath: '/sysvol/mongodb/mongodb_data',
    hosts: 3,
    sources: [writer('mongodb', 'mongodb-mongodb', 28000)],
    profiles: both,
  },
  {
    name: 'nebula',
    resource: { operator: { name: 'nebula-operator', chart: 'nebula-operator', namespace: resource } },
    section: 'nebula',
    key: 'nebula',
    dataPath: '/sysvol/nebula',
    hosts: 3,
    sources: [
      { ...writer('nebula-graphd', 'nebula-graphd', 9669), seedable: false },
      writer('nebula-metad', 'nebula-metad', 9559),
      writer('nebula-storaged', 'nebula-storaged', 9779),
    ],
    profiles: full,
  },
];

/** The components of a profile, in the order in which they are installed. */
export function componentsOf(profile: Profile): Component[] {
  return components.filter((component) => component.profiles.includes(profile));
}
