/** What a cluster configuration may hold (`?`: left out when empty). */
import { any, bool, int, list, map, quantity, string, strings, struct, type Type } from './schema.ts';

const resources = struct('v1.ResourceRequirements', { 'limits?': map(quantity), 'requests?': map(quantity) });
const amounts = struct('ResourceList', { 'cpu?': string, 'memory?': string });
/** The brokers' own form: never left out. */
const amountsOfBroker = struct('Resources', { limits: amounts, requests: amounts });

const storage = { 'storageClassName?': string, 'storage_capacity?': string } as const;
const placed = { 'replica_count?': int, 'hosts?': strings, 'data_path?': string } as const;

const ports = struct('Ports', { chartmuseum: int, registry: int, rpm: int, cr_manager: int });
const account = { 'host?': string, 'username?': string, 'password?': string } as const;

const withAdministrator = {
  'replica_count?': int,
  'hosts?': strings,
  'admin_user?': string,
  'admin_passwd?': string,
  'data_path?': string,
  ...storage,
  'resources?': resources,
} as const;

const nebulaPart = struct('NebulaPart', { 'resource?': resources, 'config?': map(string) });

const connectInfo = struct('ResourceConnectInfo', {
  'rds?': struct('RdsInfo', {
    'source_type?': string,
    'rds_type?': string,
    'hosts?': string,
    'port?': int,
    'username?': string,
    'password?': string,
    'hosts_read?': string,
    'port_read?': int,
    'mgmt_host?': string,
    'mgmt_port?': int,
    'admin_key?': string,
    'auto_create_database?': bool,
  }),
  'mongodb?': struct('MongodbInfo', {
    'source_type?': string,
    'hosts?': string,
    'port?': int,
    'replica_set?': string,
    'username?': string,
    'password?': string,
    'ssl?': bool,
    'auth_source?': string,
    'options?': any,
  }),
  'redis?': struct('RedisInfo', {
    'source_type?': string,
    'connect_type?': string,
    'username?': string,
    'password?': string,
    'hosts?': string,
    'port?': int,
    'master_hosts?': string,
    'master_port?': int,
    'slave_hosts?': string,
    'slave_port?': int,
    'sentinel_hosts?': string,
    'sentinel_port?': int,
    'sentinel_username?': string,
    'sentinel_password?': string,
    'master_group_name?': string,
  }),
  'mq?': struct('MqInfo', {
    'source_type?': string,
    'mq_type?': string,
    'mq_hosts?': string,
    'mq_port?': int,
    'mq_lookupd_hosts?': string,
    'mq_lookupd_port?': int,
    'auth?': struct('Auth', { 'username?': string, 'password?': string, 'mechanism?': string }),
  }),
  'opensearch?': struct('OpensearchInfo', {
    'source_type?': string,
    'hosts?': string,
    'port?': int,
    'username?': string,
    'password?': string,
    'protocol?': string,
    'version?': string,
    'distribution?': string,
  }),
  'policy_engine?': struct('PolicyEngineInfo', { 'source_type?': string, 'hosts?': string, 'port?': int }),
  'etcd?': struct('EtcdInfo', { 'source_type?': string, 'hosts?': string, 'port?': int, 'secret?': string }),
});

const cs = struct('Cs', {
  provisioner: string,
  enableDualStack: bool,
  ipFamilies: strings,
  'container_runtime?': struct('ContainerRuntime', {
    'containerd?': struct('Containerd', {
      'root?': string,
      'sandbox_image?': string,
      'registries?': list(struct('Registry', { 'host?': string, 'server?': string, 'host_configs?': map(map(any)) })),
    }),
    'docker?': struct('Docker', { 'data_dir?': string, 'bip?': string, 'insecure_registries?': strings }),
  }),
  master: strings,
  'host_network?': struct('HostNetwork', {
    'bip?': string,
    'pod_network_cidr?': string,
    'service_cidr?': string,
    'ipv4_interface?': string,
    'ipv6_interface?': string,
  }),
  ha_port: int,
  etcd_data_dir: string,
  docker_data_dir: string,
  'cs_controller_dir?': string,
  addons: strings,
});

const cr = struct('Cr', {
  'local?': struct('LocalCR', { hosts: strings, ports, ha_ports: ports, storage: string }),
  'external?': struct('ExternalCR', {
    'registry?': struct('Registry', account),
    'chartmuseum?': struct('Chartmuseum', account),
    'oci?': struct('OCI', { 'registry?': string, 'plain_http?': bool, 'username?': string, 'password?': string }),
    'chart_repository?': string,
    'image_repository?': string,
  }),
});

export const clusterConfig: Type = struct('ClusterConfig', {
  'apiVersion?': string,
  'deploy?': struct('Deploy', { mode: string, devicespec: string, 'namespace?': string, 'serviceaccount?': string }),
  nodes: list(struct('Node', { name: string, 'ip4?': string, 'ip6?': string, 'internal_ip?': string })),
  'chrony?': struct('Chrony', { mode: string, 'server?': strings }),
  'firewall?': struct('Firewall', { mode: string }),
  'cs?': cs,
  'cr?': cr,
  'proton_monitor?': struct('ProtonMonitor', {
    'config?': struct('MonitorConfig', {
      'dcgmExporter?': map(any),
      'nodeExporter?': map(any),
      'fluentbit?': map(any),
      'vmagent?': map(any),
      'vmetrics?': map(any),
      'vlogs?': map(any),
      'grafana?': map(any),
    }),
    'hosts?': strings,
    'data_path?': string,
    'resources?': any,
    'storage?': struct('MonitorStorage', {
      'capacity?': string,
      'storageClassName?': string,
      'local?': map(struct('MonitorVolume', { 'host?': string, 'path?': string })),
    }),
  }),
  'proton_mariadb?': struct('ProtonMariaDB', {
    'replica_count?': int,
    'hosts?': strings,
    'config?': struct('MariaDBConfig', {
      'lower_case_table_names?': int,
      'thread_handling?': string,
      'innodb_buffer_pool_size?': string,
      'resource_requests_memory?': string,
      'resource_limits_memory?': string,
    }),
    'admin_user?': string,
    'admin_passwd?': string,
    'data_path?': string,
    ...storage,
  }),
  'proton_mongodb?': struct('ProtonDB', withAdministrator),
  'proton_redis?': struct('ProtonDB', withAdministrator),
  'proton_mq_nsq?': struct('ProtonDataConf', { ...placed, ...storage, 'resources?': resources }),
  'proton_policy_engine?': struct('ProtonDataConf', { ...placed, ...storage, 'resources?': resources }),
  'proton_etcd?': struct('ProtonDataConf', { ...placed, ...storage, 'resources?': resources }),
  'opensearch?': struct('OpenSearch', {
    ...placed,
    'mode?': string,
    'config?': struct('OpenSearchConfig', {
      'jvmOptions?': string,
      'hanlpRemoteextDict?': string,
      'hanlpRemoteextStopwords?': string,
    }),
    'settings?': map(any),
    'resources?': resources,
    'exporter_resources?': resources,
    'extraValues?': map(any),
    ...storage,
  }),
  'cms?': struct('CMS', { 'nodeSelector?': map(string) }),
  'component_management?': struct('ComponentManagement', { 'nodeSelector?': map(string) }),
  'nvidia_device_plugin?': struct('NvidiaDevicePlugin', {}),
  'kafka?': struct('Kafka', {
    ...placed,
    env: map(string),
    resources: amountsOfBroker,
    'exporter_resources?': amountsOfBroker,
    ...storage,
    disable_external_service: bool,
    external_service_list: list(any),
  }),
  'zookeeper?': struct('ZooKeeper', { ...placed, env: map(string), resources: amountsOfBroker, ...storage }),
  'prometheus?': struct('Prometheus', { 'hosts?': strings, 'data_path?': string, ...storage, 'resources?': resources }),
  'grafana?': struct('Grafana', { 'hosts?': strings, 'data_path?': string, ...storage, 'resources?': resources }),
  'nebula?': struct('Nebula', {
    'hosts?': strings,
    'data_path?': string,
    'password?': string,
    graphd: nebulaPart,
    metad: nebulaPart,
    storaged: nebulaPart,
  }),
  'resource_connect_info?': connectInfo,
  'package-store?': struct('PackageStore', {
    'hosts?': strings,
    'replicas?': int,
    'storage?': struct('PackageStoreStorage', { 'storageClassName?': string, 'capacity?': string, 'path?': string }),
    'resources?': resources,
  }),
  'eceph?': struct('ECeph', {
    'skip_eceph_update?': bool,
    'hosts?': strings,
    'keepalived?': struct('ECephKeepalived', { 'internal?': string, 'external?': string }),
    'tls?': struct('ECephTLS', { 'secret?': string, 'certificate-data?': string, 'key-data?': string }),
  }),
});
