import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { components as known, type Component } from '../../workloads/components.ts';
import { chartValues, customResource, foldersOf } from '../../workloads/platform.ts';
import { ExitStatus } from '../ecms/client.ts';
import { agentOf, section, strings, type Scope } from './cluster.ts';
import { Crash } from './log.ts';
import { ApiStatus, Kubernetes } from './kubernetes.ts';
import { part, text } from './rules/access.ts';
import { judgeComponent } from './rules/components.ts';

const componentsSecret = 'persist-component-manage-components';
const pluginsSecret = 'persist-component-manage-plugins';

/** component-manage's types, in the order in which they are applied. */
export const managed: readonly { name: string; type: string; dependencies?: Record<string, string> }[] = [
  { name: 'zookeeper', type: 'zookeeper' },
  { name: 'kafka', type: 'kafka', dependencies: { zookeeper: 'zookeeper' } },
  { name: 'opensearch', type: 'opensearch' },
  { name: 'redis', type: 'redis' },
  { name: 'etcd', type: 'etcd' },
  { name: 'policy-engine', type: 'policyengine', dependencies: { etcd: 'proton-etcd' } },
  { name: 'mariadb', type: 'mariadb' },
  { name: 'mongodb', type: 'mongodb' },
  { name: 'nebula', type: 'nebula' },
];

interface Recorded {
  name: string;
  type: string;
  version: string;
  dependencies: Record<string, string> | null;
  params: Record<string, unknown>;
  info: Record<string, unknown>;
}

interface Chart {
  archive: string;
  version: string;
}

/** Charts of the service package below the working directory; a missing directory is an error of its own. */
export function listCharts(servicePackage: string): Map<string, Chart> {
  const charts = new Map<string, Chart>();
  for (const file of readdirSync(join(servicePackage, 'charts'))) {
    const match = /^(?<name>.+)-(?<version>\d+\.\d+\.\d+.*)\.tgz$/.exec(file);
    const { name, version } = match?.groups ?? {};
    if (name !== undefined && version !== undefined)
      charts.set(name, { archive: join(servicePackage, 'charts', file), version });
  }
  return charts;
}

function compareVersions(one: string, other: string): number {
  const numbers = (version: string): number[] =>
    (version.split('+')[0] ?? '').split(/[.-]/).map((part) => Number.parseInt(part, 10) || 0);
  const [left, right] = [numbers(one), numbers(other)];
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function helm(
  scope: Scope,
  release: { name: string; namespace: string },
  chart: Chart,
  values: object,
  wait: boolean,
): void {
  const args = ['upgrade', '--install', release.name, chart.archive, '-n', release.namespace, '-f', '-'];
  const more = wait ? ['--wait', '--timeout', '10m'] : [];
  const result = spawnSync('helm3', [...args, ...more], { input: stringify(values), encoding: 'utf8' });
  scope.log.info(`helm upgrade ${release.name} in ${release.namespace}`, 'helm3.go:88');
  if (result.status !== 0) throw new Error(result.stderr.trim() || `helm3 ended by ${result.signal ?? 'error'}`);
}

/** The directory must be there on each host; one that is missing is made, empty, and nobody looks what is in it. */
async function prepareStorage(
  scope: Scope,
  kubernetes: Kubernetes,
  hosts: readonly string[],
  folders: readonly string[],
): Promise<void> {
  const present = new Set((await kubernetes.nodes()).map(({ metadata }) => metadata.name));
  for (const host of hosts) {
    if (!present.has(host)) throw new Error(`node ${host} not found`);
    const agent = agentOf(scope, host);
    for (const folder of folders) {
      const isThere = await agent.run('test', '-d', folder).then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof ExitStatus)) throw error;
          return false;
        },
      );
      if (isThere) scope.log.info('data path exist, skip create', 'local_storage.go:71');
      else await agent.makeDirectory(folder);
    }
  }
}

export function describe(name: string): Component {
  const found = known.find((component) => component.name === name);
  if (found === undefined) throw new Error(`unknown component ${name}`);
  return found;
}

async function applyResource(kubernetes: Kubernetes, resource: object): Promise<void> {
  const object = resource as { apiVersion: string; kind: string; metadata: { name: string; namespace: string } };
  const plurals: Record<string, string> = {
    RDSMariaDBCluster: 'rdsmariadbclusters',
    MongodbOperator: 'mongodboperators',
    NebulaCluster: 'nebulaclusters',
  };
  const path = `/apis/${object.apiVersion}/namespaces/${object.metadata.namespace}/${plurals[object.kind] ?? ''}`;
  try {
    await kubernetes.call('PATCH', `${path}/${object.metadata.name}`, resource);
  } catch (error) {
    if (!(error instanceof ApiStatus) || error.code !== 404) throw error;
    await kubernetes.call('POST', path, resource);
  }
}

/** Databases get the account of the services that use them. */
const accounts: Record<string, string> = { mariadb: 'rds', mongodb: 'mongodb' };

/** Parameters of the request for a component. */
export function paramsOf(scope: Pick<Scope, 'config' | 'namespaces'>, component: Component): Record<string, unknown> {
  const wanted = { ...section(scope, component.section), namespace: scope.namespaces.resource };
  const key = accounts[component.name];
  if (key === undefined) return wanted;
  const account = part(section(scope, 'resource_connect_info'), key);
  return { ...wanted, username: text(account, 'username'), password: text(account, 'password') };
}

class Rejected extends Error {}

/** Installs or upgrades one component as component-manage does: check, storage, release or custom resource; the record comes last. */
async function applyManaged(
  scope: Scope,
  kubernetes: Kubernetes,
  charts: Map<string, Chart>,
  entry: (typeof managed)[number],
): Promise<void> {
  const { log } = scope;
  const component = describe(entry.name);
  const key = component.key ?? entry.name;
  const chartName = component.release?.chart ?? component.resource?.operator.chart ?? '';
  const chart = charts.get(chartName);
  if (chart === undefined) {
    log.info(`chart ${chartName} not found, skip apply`, 'apply.go:160');
    return;
  }
  const { resource } = scope.namespaces;
  const secret = await kubernetes.secret(resource, componentsSecret).catch((error: unknown) => {
    if (error instanceof ApiStatus && error.code === 404) return undefined;
    throw error;
  });
  const entries = Object.fromEntries(
    Object.entries(secret?.data ?? {}).map(([name, value]) => [
      name,
      parse(Buffer.from(value, 'base64').toString(), { version: '1.1' }) as Recorded,
    ]),
  );
  const recorded = entries[key];
  if (recorded !== undefined && compareVersions(chart.version, recorded.version) < 0) {
    log.info(`component ${key} is up to date: skip ${recorded.version} -> ${chart.version}`, 'apply.go:201');
    return;
  }
  if (component.resource !== undefined) helm(scope, component.resource.operator, chart, {}, true);
  await kubernetes.putSecret(resource, pluginsSecret, {
    [entry.type]: stringify({
      name: entry.type,
      type: entry.type,
      version: chart.version,
      config: { chart_name: chartName, chart_version: chart.version },
    }),
  });
  const verdict = judgeComponent({
    type: entry.type,
    component: key,
    method: recorded === undefined ? 'POST' : 'PUT',
    old: recorded?.params ?? null,
    new: paramsOf(scope, component),
    dependencies: entry.dependencies ?? null,
    other_components: Object.keys(entries).filter((name) => name !== key),
  });
  if (verdict.verdict === 'rejected') {
    const status = `${verdict.http_status ?? 500} ${verdict.http_status === 400 ? 'Bad Request' : 'Internal Server Error'}`;
    throw new Rejected(`code: ${status}, resp: ${verdict.http_body === null ? '' : JSON.stringify(verdict.http_body)}`);
  }
  const params = verdict.completed_params ?? {};
  const hosts = strings(params['hosts']);
  const placed = { ...component, dataPath: text(params, 'data_path') || component.dataPath };
  await prepareStorage(scope, kubernetes, hosts, foldersOf(placed));
  if (component.release !== undefined) helm(scope, component.release, chart, chartValues(placed, hosts, params), false);
  else await applyResource(kubernetes, customResource(placed, hosts));
  const value: Recorded = {
    name: key,
    type: entry.type,
    version: component.resource === undefined ? chart.version : `${chart.version}+2.2.0`,
    dependencies: entry.dependencies ?? null,
    params,
    info: recorded?.info ?? {},
  };
  await kubernetes.putSecret(resource, componentsSecret, {
    [key]: stringify(value, { version: '1.1', sortMapEntries: true, lineWidth: 0 }),
  });
}

/** component_manage: the service itself first, then all its components; every one is tried, errors are joined. */
export async function componentManage(scope: Scope, servicePackage: string): Promise<void> {
  const charts = listCharts(servicePackage);
  const chart = charts.get('component-manage');
  if (chart === undefined) throw new Crash('panic: runtime error: invalid memory address or nil pointer dereference');
  if (section(scope, 'component_management') === undefined) return;
  const kubernetes = new Kubernetes('/etc/kubernetes/admin.conf');
  helm(scope, { name: 'component-manage', namespace: scope.namespaces.resource }, chart, {}, true);
  scope.log.info('install/upgrade component-management success', 'apply.go:88');
  const isCustom = ((section(scope, 'deploy')?.['namespace'] as string | undefined) ?? '') !== '';
  const errors: string[] = [];
  for (const entry of managed) {
    const component = describe(entry.name);
    if (section(scope, component.section) === undefined) continue;
    if (isCustom && component.resource !== undefined) {
      scope.log.info(`custom namespace is enabled, skip apply ${entry.name}`, 'apply.go:140');
      continue;
    }
    try {
      await applyManaged(scope, kubernetes, charts, entry);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const name = component.key ?? entry.name;
      errors.push(
        error instanceof Rejected
          ? `upgrade ${name} error: upgrade ${name} failed: ${message}`
          : `upgrade ${name} error: ${message}`,
      );
    }
  }
  if (errors.length > 0) throw new Error(`apply component-manage error: ${errors.join('\n')}`);
}

/** Modules that install a chart by themselves: recorded in the configuration only. */
async function direct(scope: Scope, servicePackage: string, name: string): Promise<void> {
  const component = describe(name);
  const wanted = section(scope, component.section);
  const chart = listCharts(servicePackage).get(component.release?.chart ?? '');
  if (wanted === undefined || component.release === undefined || chart === undefined) return;
  const kubernetes = new Kubernetes('/etc/kubernetes/admin.conf');
  const placed = {
    ...component,
    dataPath: text(wanted, 'data_path') || text(part(wanted, 'storage'), 'path') || component.dataPath,
  };
  const hosts = strings(wanted['hosts']);
  await prepareStorage(scope, kubernetes, hosts, foldersOf(placed));
  helm(scope, component.release, chart, chartValues(placed, hosts), false);
}

/** Optional modules after component_manage, by the names that failures carry. */
export const directModules: readonly {
  module: string;
  run: (scope: Scope, servicePackage: string) => Promise<void>;
}[] = [
  { module: 'proton_mq_nsq', run: (scope, folder) => direct(scope, folder, 'nsq') },
  { module: 'prometheus', run: (scope, folder) => direct(scope, folder, 'prometheus') },
  { module: 'grafana', run: (scope, folder) => direct(scope, folder, 'grafana') },
  { module: 'package-store', run: (scope, folder) => direct(scope, folder, 'package-store') },
];

export function hasCharts(servicePackage: string): boolean {
  return existsSync(join(servicePackage, 'charts'));
}
