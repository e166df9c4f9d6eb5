/** The configuration that the lab platform has recorded. */
import { stringify } from 'yaml';
import { componentsOf } from './components.ts';
import type { Profile } from './service-package.ts';

export interface Machine {
  name: string;
  address: string;
}

/** Passwords of the lab. Most read differently under YAML 1.1 when they lose their quotes; the long ones can be looked for in logs. */
export const passwords = {
  mariadbAdmin: '012345670123',
  mariadb: '20261125.10',
  mongodbAdmin: 'yes',
  mongodb: '0x1f2e3d4c5b6a',
  redis: '31415926e3',
  opensearch: 'null',
  kafka: "it's #1: a 'pass' word",
  nebula: '0123456789abcdef01234567',
} as const;

export const haPort = 8443;
export const podNetwork = '10.88.0.0/16';
export const serviceNetwork = '10.96.0.0/16';
export const etcdDirectory = '/sysvol/proton_data/cs_etcd_data';

/**
 * What `get conf` of the platform prints for it: keys sorted, block style, and quotes wherever YAML 1.1 would read something other
 * than the text.
 */
export function clusterConfiguration(
  machines: readonly Machine[],
  profile: Profile,
  firewall: 'firewalld' | 'usermanaged' = 'usermanaged',
): string {
  const names = machines.map(({ name }) => name);
  const service = (name: string): string => `${name}.resource.svc.cluster.local.`;
  const sections: Record<string, unknown> = {};
  for (const component of componentsOf(profile)) {
    const hosts = names.slice(0, component.hosts);
    sections[component.section] =
      component.name === 'package-store'
        ? { hosts, replicas: hosts.length, storage: { capacity: '1Gi', path: component.dataPath } }
        : { data_path: component.dataPath, hosts, ...extraFields[component.name] };
  }
  const document = {
    apiVersion: 'v1',
    chrony: { mode: 'usermanaged' },
    cms: {},
    component_management: {},
    cr: {
      local: {
        ha_ports: { chartmuseum: 15001, cr_manager: 15002, registry: 15000, rpm: 15003 },
        hosts: names.slice(0, 2),
        ports: { chartmuseum: 5001, cr_manager: 5002, registry: 5000, rpm: 5003 },
        storage: '/sysvol/proton_data/cr_data',
      },
    },
    cs: {
      addons: [],
      container_runtime: {
        containerd: { root: '/sysvol/proton_data/cs_containerd_data', sandbox_image: 'docker.io/lab/pause:1' },
      },
      cs_controller_dir: './service-package',
      docker_data_dir: '/sysvol/proton_data/cs_docker_data',
      enableDualStack: false,
      etcd_data_dir: etcdDirectory,
      ha_port: haPort,
      host_network: { bip: '172.33.0.1/16', pod_network_cidr: podNetwork, service_cidr: serviceNetwork },
      ipFamilies: ['IPv4'],
      master: names,
      provisioner: 'local',
    },
    deploy: { devicespec: 'AS10000', mode: 'standard' },
    firewall: { mode: firewall },
    nodes: machines.map(({ name, address }) => ({ ip4: address, name })),
    resource_connect_info: {
      etcd: { hosts: service('proton-etcd'), port: 2379, secret: 'etcdssl-secret', source_type: 'internal' },
      mongodb: {
        auth_source: 'anyshare',
        hosts: names.map((_, i) => `mongodb-mongodb-${i}.mongodb-mongodb.resource.svc.cluster.local.`).join(','),
        password: passwords.mongodb,
        port: 28000,
        replica_set: 'rs0',
        source_type: 'internal',
        username: 'anyshare',
      },
      mq: {
        auth: { mechanism: 'PLAIN', password: passwords.kafka, username: 'kafkauser' },
        mq_hosts: service('kafka-headless'),
        mq_port: 9097,
        mq_type: 'kafka',
        source_type: 'internal',
      },
      opensearch: {
        distribution: 'opensearch',
        hosts: service('opensearch-master'),
        password: passwords.opensearch,
        port: 9200,
        protocol: 'http',
        source_type: 'internal',
        username: 'admin',
        version: '7.10.0',
      },
      policy_engine: {
        hosts: service('proton-policy-engine-proton-policy-engine-cluster'),
        port: 9800,
        source_type: 'internal',
      },
      rds: {
        hosts: service('mariadb-mariadb-master'),
        hosts_read: service('mariadb-mariadb-cluster'),
        mgmt_host: service('mariadb-mgmt-cluster'),
        mgmt_port: 8888,
        password: passwords.mariadb,
        port: 3330,
        port_read: 3330,
        rds_type: 'MariaDB',
        source_type: 'internal',
        username: 'anyshare',
      },
      redis: {
        connect_type: 'sentinel',
        master_group_name: 'mymaster',
        password: passwords.redis,
        sentinel_hosts: service('proton-redis-proton-redis-sentinel'),
        sentinel_port: 26379,
        source_type: 'internal',
        username: 'root',
      },
    },
    ...sections,
  };
  return stringify(document, { version: '1.1', sortMapEntries: true, lineWidth: 0 });
}

const memory = (requests: string, limits: string): object => ({
  limits: { cpu: '1', memory: limits },
  requests: { cpu: '10m', memory: requests },
});

const extraFields: Record<string, Record<string, unknown>> = {
  kafka: {
    disable_external_service: false,
    env: null,
    external_service_list: null,
    resources: memory('16Mi', '256Mi'),
  },
  zookeeper: { env: { JVMFLAGS: '-Xms500m -Xmx500m' }, resources: memory('16Mi', '256Mi') },
  opensearch: {
    config: { jvmOptions: '-Xmx8g -Xms8g' },
    mode: 'master',
    settings: { 'cluster.routing.allocation.disk.watermark.low': '60%' },
  },
  mariadb: {
    admin_passwd: passwords.mariadbAdmin,
    admin_user: 'root',
    config: { innodb_buffer_pool_size: '8M', resource_limits_memory: '256M', resource_requests_memory: '32M' },
  },
  mongodb: { admin_passwd: passwords.mongodbAdmin, admin_user: 'root' },
  redis: { admin_passwd: passwords.redis, admin_user: 'root' },
  nebula: { graphd: {}, metad: {}, password: passwords.nebula, storaged: {} },
};
