/** What the platform fills in before it looks at a configuration. */
import { hostsOf, needed, nodesOf, number, Panic, part, text, texts } from './access.ts';
import type { Fields } from './schema.ts';

/** Directories of sections that may leave out their own. */
const directories: Record<string, string> = { prometheus: '/sysvol/prometheus', grafana: '/sysvol/grafana' };

const addons = ['node-exporter', 'kube-state-metrics'];

/** The families of which each node has an address. */
function families(config: Fields): string[] {
  return (
    [
      ['IPv4', 'ip4'],
      ['IPv6', 'ip6'],
    ] as const
  )
    .filter(([, key]) => nodesOf(config).every((node) => text(node, key) !== ''))
    .map(([family]) => family);
}

function completeCs(config: Fields): Fields {
  const cs = { ...needed(config, 'cs') };
  if (text(cs, 'provisioner') === '') cs['provisioner'] = 'local';
  if (cs['provisioner'] === 'local') {
    cs['ipFamilies'] ??= families(config);
    cs['addons'] ??= [...addons];
  }
  return cs;
}

function completeChrony(config: Fields, cs: Fields): Fields {
  const chrony = part(config, 'chrony');
  if (chrony === undefined) return { mode: 'usermanaged' };
  if (chrony['mode'] !== 'localmaster' || (texts(chrony, 'server') ?? []).length > 0) return chrony;
  const [first] = texts(cs, 'master') ?? [];
  if (first === undefined) throw new Panic('panic: runtime error: index out of range [0] with length 0');
  return { ...chrony, server: [first] };
}

function completeStore(store: Fields): Fields {
  const hosts = hostsOf(store);
  if (hosts.length === 0) return store;
  const storage = { ...part(store, 'storage') };
  if (text(storage, 'path') === '') storage['path'] = '/sysvol/package-store';
  return { ...store, replicas: store['replicas'] ?? hosts.length, storage };
}

function without(fields: Fields, ...keys: string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => !keys.includes(key)));
}

/** Services of the platform's own components: their addresses are written anew, and some accounts are placeholders until a module knows them. */
function completeConnections(config: Fields, namespace: string): Fields | undefined {
  const info = part(config, 'resource_connect_info');
  if (info === undefined) return undefined;
  const result = { ...info };
  const internal = (key: string): Fields | undefined => {
    const found = part(info, key);
    return text(found, 'source_type') === 'internal' ? found : undefined;
  };
  const rds = internal('rds');
  if (rds !== undefined) {
    result['rds'] = {
      ...without(rds, 'mgmt_host', 'mgmt_port'),
      rds_type: 'MariaDB',
      hosts: `mariadb-mariadb-master.${namespace}`,
      port: 3330,
      hosts_read: `mariadb-mariadb-cluster.${namespace}`,
      port_read: 3330,
    };
  }
  const mongodb = internal('mongodb');
  const database = part(config, 'proton_mongodb');
  if (mongodb !== undefined && database !== undefined) {
    const count = hostsOf(database).length || number(database, 'replica_count');
    const hosts = Array.from({ length: count }, (_, index) => `mongodb-mongodb-${index}.mongodb-mongodb.${namespace}`);
    result['mongodb'] = { ...mongodb, hosts: hosts.join(','), port: 28000, replica_set: 'rs0' };
  }
  const mq = internal('mq');
  if (mq !== undefined && text(mq, 'mq_type') === 'kafka') {
    const auth = { mechanism: 'PLAIN', username: 'FAKE_USERNAME', password: 'FAKE_PASSWORD' };
    result['mq'] = { ...mq, mq_hosts: `kafka-headless.${namespace}`, mq_port: 9097, auth };
  }
  return result;
}

export function complete(config: Fields, namespace = 'resource'): Fields {
  const cs = completeCs(config);
  const completed: Fields = { ...config, cs, chrony: completeChrony(config, cs) };
  if (text(part(config, 'firewall'), 'mode') === '') completed['firewall'] = { mode: 'firewalld' };
  for (const [key, directory] of Object.entries(directories)) {
    const section = part(config, key);
    if (section === undefined || text(section, 'storageClassName') !== '' || text(section, 'data_path') !== '')
      continue;
    completed[key] = { ...section, data_path: directory };
  }
  const store = part(config, 'package-store');
  if (store !== undefined) completed['package-store'] = completeStore(store);
  const connections = completeConnections(config, namespace);
  if (connections !== undefined) completed['resource_connect_info'] = connections;
  return completed;
}
