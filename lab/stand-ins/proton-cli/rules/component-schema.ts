/** Parameters of component-manage's types (`?`: left out when empty). */
import { any, bool, int, list, map, quantity, string, strings, struct, type Type } from './schema.ts';

const resources = struct('v1.ResourceRequirements', { 'limits?': map(quantity), 'requests?': map(quantity) });
const amounts = struct('ResourceList', { 'cpu?': string, 'memory?': string });
const amountsOfBroker = struct('Resources', { limits: amounts, requests: amounts });
const storage = { 'storageClassName?': string, 'storage_capacity?': string } as const;

const broker = {
  namespace: string,
  replica_count: int,
  'hosts?': strings,
  'data_path?': string,
  env: map(string),
  resources: amountsOfBroker,
  ...storage,
} as const;

const simple = {
  namespace: string,
  'replica_count?': int,
  hosts: strings,
  data_path: string,
  ...storage,
  'resources?': resources,
} as const;

const operated = {
  namespace: string,
  replica_count: int,
  hosts: strings,
  admin_user: string,
  admin_passwd: string,
  data_path: string,
  ...storage,
  'resources?': resources,
  username: string,
  password: string,
  admin_secret_name: string,
} as const;

const nebulaPart = struct('NebulaPart', { 'resource?': resources, 'config?': map(string) });

function nullable(type: Type, ...keys: string[]): Type {
  if (type.kind !== 'struct') return type;
  return {
    ...type,
    fields: type.fields.map((field) => (keys.includes(field.key) ? { ...field, pointer: true } : field)),
  };
}

export const paramsTypes = {
  zookeeper: struct('ZookeeperComponentParams', broker),
  kafka: struct('KafkaComponentParams', {
    ...broker,
    'exporter_resources?': amountsOfBroker,
    disable_external_service: bool,
    external_service_list: list(any),
  }),
  opensearch: struct('OpensearchComponentParams', {
    ...simple,
    mode: string,
    'config?': struct('OpensearchConfig', {
      'jvmOptions?': string,
      'hanlpRemoteextDict?': string,
      'hanlpRemoteextStopwords?': string,
    }),
    settings: map(any),
    'exporter_resources?': resources,
    'extraValues?': map(any),
  }),
  redis: struct('RedisComponentParams', { ...simple, admin_user: string, admin_passwd: string }),
  etcd: struct('ETCDComponentParams', simple),
  policyengine: struct('PolicyEngineComponentParams', simple),
  mariadb: nullable(
    struct('MariaDBComponentParams', {
      ...operated,
      config: struct('MariaDBConfig', {
        'lower_case_table_names?': int,
        'thread_handling?': string,
        'innodb_buffer_pool_size?': string,
        'resource_requests_memory?': string,
        'resource_limits_memory?': string,
      }),
    }),
    'config',
  ),
  mongodb: struct('MongoDBComponentParams', operated),
  nebula: struct('NebulaComponentParams', {
    namespace: string,
    hosts: strings,
    data_path: string,
    password: string,
    graphd: nebulaPart,
    metad: nebulaPart,
    storaged: nebulaPart,
    admin_secret_name: string,
  }),
} as const;

export type ComponentType = keyof typeof paramsTypes;
