/** What the platform demands of a configuration by itself. The order of the rules is that of their messages. */
import { isIPv4, isIPv6 } from 'node:net';
import { hostsOf, needed, nodesOf, number, Panic, part, text, texts } from './access.ts';
import {
  duplicate,
  forbidden,
  invalid,
  invalidList,
  notFound,
  required,
  tooMany,
  unsupported,
} from './field-errors.ts';
import { isQuantity, quantityRule } from './quantity.ts';
import type { Fields } from './schema.ts';

type Rule = (config: Fields) => string[];

function names(config: Fields): string[] {
  return nodesOf(config).map((node) => text(node, 'name'));
}

function repeated(items: readonly string[]): boolean {
  return new Set(items).size < items.length;
}

/** Positions whose value stood before, with the value. */
function repeats(items: readonly string[]): [number, string][] {
  return [...items.entries()].filter(([index, item]) => items.indexOf(item) < index);
}

function undefinedHosts(path: string, hosts: readonly string[], config: Fields): string[] {
  const known = new Set(names(config));
  const missing = [...new Set(hosts)].filter((host) => !known.has(host)).sort();
  return missing.length === 0 ? [] : [invalidList(path, missing, 'undefined')];
}

/** Without a zone. */
function isAddress6(address: string): boolean {
  return isIPv6(address) && !address.includes('%');
}

function isMappedIPv4(address: string): boolean {
  return isAddress6(address) && /^::ffff:(?:\d+\.\d+\.\d+\.\d+|[\da-f]{1,4}:[\da-f]{1,4})$/i.test(address);
}

const labelRule =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/** The one rule for a name with two messages. */
function nameErrors(path: string, name: string): string[] {
  return [
    ...(Buffer.byteLength(name) > 63 ? [invalid(path, name, 'must be no more than 63 characters')] : []),
    ...(/^[a-z](?:[-a-z0-9]*[a-z0-9])?$/.test(name) ? [] : [invalid(path, name, labelRule)]),
  ];
}

const addresses = [
  { key: 'ip4', is: (address: string) => isIPv4(address) || isMappedIPv4(address), why: 'must be an IPv4 address' },
  {
    key: 'ip6',
    is: (address: string) => isAddress6(address) && !isMappedIPv4(address),
    why: 'must be an IPv6 address',
  },
];

const nodes: Rule = (config) => {
  const all = nodesOf(config);
  const seen = (key: string, index: number, value: string): boolean =>
    all.slice(0, index).some((other) => text(other, key) === value);
  return all.flatMap((node, index) => {
    const name = text(node, 'name');
    const errors = nameErrors('nodes.name', name);
    if (seen('name', index, name)) errors.push(duplicate(`nodes[${index}].name`, name));
    if (text(node, 'ip4') === '' && text(node, 'ip6') === '')
      errors.push(invalid(`nodes[${index}]`, '', 'either .IP4 or .IP6 is required'));
    for (const { key, is, why } of addresses) {
      const address = text(node, key);
      if (address === '') continue;
      if (!is(address)) errors.push(invalid(`nodes[${index}].${key}`, address, why));
      else if (seen(key, index, address)) errors.push(duplicate(`nodes[${index}].${key}`, address));
    }
    return errors;
  });
};

const deploy: Rule = (config) => {
  const section = part(config, 'deploy');
  if (section === undefined) return [required('deploy', 'must set deploy mode and devicespec')];
  return oneOf('deploy.mode', text(section, 'mode'), ['standard', 'cloud']);
};

function oneOf(path: string, value: string, supported: readonly string[]): string[] {
  return supported.includes(value) ? [] : [unsupported(path, value, supported)];
}

const chrony: Rule = (config) => {
  const section = needed(config, 'chrony');
  const servers = texts(section, 'server') ?? [];
  const path = 'chrony.server';
  switch (text(section, 'mode')) {
    case 'usermanaged':
      return servers.length === 0
        ? []
        : [
            forbidden(
              path,
              'Proton-CLI will not manage NTP servers in usermanaged mode, please configure NTP manually',
            ),
          ];
    case 'localmaster': {
      if (servers.length > 1) return [forbidden(path, 'Only one server is allowed in localmaster mode')];
      return oneOf(path, servers[0] ?? '', texts(needed(config, 'cs'), 'master') ?? []);
    }
    case 'externalntp':
      return servers.length > 0 ? [] : [required(path, 'A NTP server address is required in chrony externalntp mode')];
    default:
      return oneOf('chrony.mode', text(section, 'mode'), ['usermanaged', 'localmaster', 'externalntp']);
  }
};

const firewall: Rule = (config) =>
  oneOf('firewall.mode', text(part(config, 'firewall'), 'mode'), ['firewalld', 'usermanaged']);

const familyKeys: Record<string, string> = { IPv4: 'ip4', IPv6: 'ip6' };

function known(path: string, values: readonly string[], supported: readonly string[]): string[] {
  return values.flatMap((value, index) => {
    if (!supported.includes(value)) return [unsupported(`${path}[${index}]`, value, supported)];
    return values.indexOf(value) < index ? [duplicate(`${path}[${index}]`, value)] : [];
  });
}

const cs: Rule = (config) => {
  const section = needed(config, 'cs');
  const provisioner = text(section, 'provisioner');
  const families = texts(section, 'ipFamilies') ?? [];
  if (provisioner === 'external') {
    const errors: string[] = [];
    if (families.length > 0) errors.push(forbidden('cs.ipFamilies', "provisioner isn't local"));
    return errors;
  }
  if (provisioner !== 'local') throw new Panic('panic: unsupported K8S cluster provisioner');
  const masters = texts(section, 'master') ?? [];
  const errors = undefinedHosts('cs.hosts', masters, config);
  if (repeated(masters)) errors.push(duplicate('cs.hosts', masters));
  if (families.length === 0) errors.push(required('cs.ipFamilies'));
  errors.push(...known('cs.ipFamilies', families, ['IPv4', 'IPv6']));
  for (const [index, node] of nodesOf(config).entries()) {
    for (const family of new Set(families)) {
      const key = familyKeys[family];
      if (key !== undefined && text(node, key) === '')
        errors.push(required(`nodes[${index}].${key}`, 'proton-cs requires'));
    }
  }
  errors.push(...known('cs.addons', texts(section, 'addons') ?? [], ['kube-state-metrics', 'node-exporter']));
  return errors;
};

const repositories = [
  { key: 'chart_repository', what: 'chart', supported: ['', 'chartmuseum', 'oci'] },
  { key: 'image_repository', what: 'image', supported: ['', 'registry', 'oci'] },
];

const cr: Rule = (config) => {
  const section = part(config, 'cr');
  if (section === undefined) return [required('cr')];
  const [local, external] = [part(section, 'local'), part(section, 'external')];
  if (local !== undefined && external !== undefined)
    return [invalid('cr', '', '.Cr.Local and .Cr.External are mutually exclusive')];
  if (local === undefined && external === undefined) return [required('cr')];
  if (external === undefined) return [];
  return repositories
    .filter(({ key, supported }) => !supported.includes(text(external, key)))
    .map(({ what }) => `cr: Internal error: ${what} repository is using an unsupported repository type`);
};

const replicated: readonly (readonly [section: string, path: string])[] = [
  ['proton_mariadb', 'proton_mariadb'],
  ['proton_mongodb', 'proton_mongodb'],
  ['proton_mq_nsq', 'proton_mq_nsq'],
  ['opensearch', 'opensearch'],
  ['proton_policy_engine', 'proton_policy_engine'],
  ['proton_etcd', 'etcd'],
  ['proton_redis', 'proton_redis'],
  ['kafka', 'kafka'],
  ['zookeeper', 'zookeeper'],
];

const replicaCounts: Rule = (config) => {
  if (text(needed(config, 'cs'), 'provisioner') !== 'external') return [];
  return replicated.flatMap(([key, path]) => {
    const section = part(config, key);
    const count = number(section, 'replica_count');
    if (section === undefined || count >= 1) return [];
    const why = 'replica_count should be specified and should be >= 1 when using external k8s cluster';
    return [invalid(`${path}.ReplicaCount`, count, why)];
  });
};

/** Components on hosts of their own or on a storage class, never on both. */
interface Placed {
  section: string;
  /** As the messages call it. */
  path: string;
  /** Where only one or three hosts are allowed. */
  isOneOrThree: boolean;
  needsDirectory: boolean;
  hasStorageClass: boolean;
  more?: (section: Fields, config: Fields) => string[];
}

function mariadbConfig(section: Fields): string[] {
  const config = part(section, 'config');
  const path = 'proton_mariadb.config';
  const errors: string[] = [];
  const lowerCase = number(config, 'lower_case_table_names');
  if (![0, 1, 2].includes(lowerCase))
    errors.push(invalid(`${path}.lower_case_table_names`, lowerCase, 'must be 0, 1 or 2'));
  for (const key of ['innodb_buffer_pool_size', 'resource_requests_memory', 'resource_limits_memory']) {
    const value = text(config, key);
    if (value !== '' && !isQuantity(value)) errors.push(invalid(`${path}.${key}`, value, quantityRule));
  }
  return errors;
}

const onHosts: readonly Placed[] = [
  {
    section: 'proton_mariadb',
    path: 'proton_mariadb',
    isOneOrThree: false,
    needsDirectory: true,
    hasStorageClass: true,
    more: mariadbConfig,
  },
  {
    section: 'opensearch',
    path: 'opensearch',
    isOneOrThree: false,
    needsDirectory: false,
    hasStorageClass: false,
  },
  {
    section: 'kafka',
    path: 'kafka',
    isOneOrThree: false,
    needsDirectory: true,
    hasStorageClass: true,
    more: (_, config) =>
      part(config, 'zookeeper') === undefined ? [required('zookeeper', 'kafka requires zookeeper')] : [],
  },
  { section: 'zookeeper', path: 'zookeeper', isOneOrThree: true, needsDirectory: true, hasStorageClass: true },
  { section: 'proton_mq_nsq', path: 'proton_mq_nsq', isOneOrThree: true, needsDirectory: true, hasStorageClass: true },
  { section: 'proton_mongodb', path: 'mongodb', isOneOrThree: true, needsDirectory: true, hasStorageClass: true },
];

function placed({ section: key, path, ...rule }: Placed): Rule {
  return (config) => {
    const section = part(config, key);
    if (section === undefined) return [];
    const hosts = hostsOf(section);
    const directory = text(section, 'data_path');
    const errors: string[] = [];
    if (rule.hasStorageClass && text(section, 'storageClassName') !== '') {
      const both = (field: string): string => `.storageClassName and .${field} cannot be set at the same time`;
      if (hosts.length > 0) errors.push(invalidList(`${path}.hosts`, hosts, both('hosts')));
      if (directory !== '') errors.push(invalidList(`${path}.data_path`, hosts, both('data_path')));
    } else {
      errors.push(...undefinedHosts(`${path}.hosts`, hosts, config));
      if (rule.isOneOrThree && ![1, 3].includes(new Set(hosts).size))
        errors.push(required(`${path}.hosts`, 'only support 1 or 3 host'));
      if (repeated(hosts)) errors.push(duplicate(`${path}.hosts`, hosts));
      if (rule.needsDirectory && directory === '') errors.push(required(`${path}.data_path`));
    }
    return [...errors, ...(rule.more?.(section, config) ?? [])];
  };
}

function directoryErrors(path: string, directory: string): string[] {
  return [
    ...(directory.startsWith('/') ? [] : [invalid(path, directory, 'should be absolute path')]),
    ...(directory.split('/').includes('..') ? [invalid(path, directory, "must not contain '..'")] : []),
  ];
}

/** Each host on a line of its own. */
function hostErrors(path: string, hosts: readonly string[], config: Fields): string[] {
  const all = new Set(names(config));
  return hosts.flatMap((host, index) => {
    if (!all.has(host)) return [notFound(`${path}[${index}]`, host)];
    return repeats(hosts).some(([at]) => at === index) ? [duplicate(`${path}[${index}]`, host)] : [];
  });
}

function watching(key: string, most: number, needs?: string): Rule {
  return (config) => {
    const section = part(config, key);
    if (section === undefined) return [];
    const hosts = hostsOf(section);
    const directory = text(section, 'data_path');
    const storageClass = text(section, 'storageClassName');
    const errors: string[] = [];
    if (storageClass !== '') {
      if (hosts.length > 0 || directory !== '')
        errors.push(
          invalid(`${key}.storageClassName`, storageClass, 'storageClassName is conflicted with hosts and data_path'),
        );
    } else {
      if (hosts.length > most) errors.push(tooMany(`${key}.hosts`, hosts.length, most));
      if (most === 1 && hosts.length === 0) errors.push(required(`${key}.hosts`));
      errors.push(...hostErrors(`${key}.hosts`, hosts, config));
      errors.push(...directoryErrors(`${key}.data_path`, directory));
    }
    if (needs !== undefined && part(config, needs) === undefined)
      errors.push(required(needs, `${key} requires ${needs}`));
    return errors;
  };
}

const packageStore: Rule = (config) => {
  const section = part(config, 'package-store');
  if (section === undefined) return [];
  const path = 'package-store';
  const hosts = hostsOf(section);
  const storage = part(section, 'storage');
  const storageClass = text(storage, 'storageClassName');
  const directory = text(storage, 'path');
  const errors: string[] = [];
  if (hosts.length > 0) {
    errors.push(...hostErrors(`${path}.hosts`, hosts, config));
    const replicas = number(section, 'replicas');
    if (replicas !== hosts.length)
      errors.push(invalid(`${path}.replicas`, replicas, '.replicas should be equal to .hosts length if set'));
    if (storageClass !== '')
      errors.push(invalid(`${path}.storage.storageClassName`, storageClass, 'only for hosted environments'));
    errors.push(...directoryErrors(`${path}.storage.path`, directory));
  } else {
    if (storageClass === '') errors.push(required(`${path}.storage.storageClassName`));
    if (directory !== '') errors.push(invalid(`${path}.storage.path`, directory, 'only for bared environments'));
  }
  if (part(part(config, 'resource_connect_info'), 'rds') === undefined)
    errors.push(required('resource_connect_info.rds'));
  return errors;
};

const databases = ['MariaDB', 'MySQL', 'GoldenDB', 'DM8', 'TiDB', 'KDB9'];

function accountErrors(info: Fields, path: string): string[] {
  return ['username', 'password'].filter((key) => text(info, key) === '').map((key) => required(`${path}.${key}`));
}

function rdsErrors(rds: Fields, path: string): string[] {
  const errors: string[] = [];
  if (text(rds, 'source_type') === 'external') {
    const [kind, port] = [text(rds, 'rds_type'), number(rds, 'port')];
    if (!databases.includes(kind))
      errors.push(invalid(`${path}.rds_type`, kind, `valid rdsType: ${databases.join(' ')}`));
    if (text(rds, 'hosts') === '') errors.push(required(`${path}.hosts`));
    if (port <= 0 || port > 65535) errors.push(invalid(`${path}.port`, port, 'valid port: 0-65535'));
  }
  return [...errors, ...accountErrors(rds, path)];
}

const connections: Rule = (config) => {
  const info = part(config, 'resource_connect_info');
  const [rds, mongodb] = [part(info, 'rds'), part(info, 'mongodb')];
  return [
    ...(rds === undefined ? [] : rdsErrors(rds, 'resource_connect_info.rds')),
    ...(mongodb === undefined ? [] : accountErrors(mongodb, 'resource_connect_info.mongodb')),
  ];
};

const eceph: Rule = (config) => {
  const section = part(config, 'eceph');
  if (section === undefined) return [];
  const hosts = hostsOf(section);
  const errors = hostErrors('eceph.hosts', hosts, config);
  for (const [index, node] of nodesOf(config).entries()) {
    if (hosts.includes(text(node, 'name')) && text(node, 'internal_ip') === '')
      errors.push(required(`nodes[${index}].internal_ip`, 'eceph requires'));
  }
  return errors;
};

const rules: readonly Rule[] = [
  deploy,
  nodes,
  chrony,
  firewall,
  replicaCounts,
  cs,
  cr,
  ...onHosts.map(placed),
  watching('prometheus', 2),
  watching('grafana', 1, 'prometheus'),
  packageStore,
  connections,
  eceph,
];

/** Errors of a completed configuration; throws Panic. */
export function validate(config: Fields): string[] {
  return rules.flatMap((rule) => rule(config));
}
