/** Puts the platform into a running lab: configuration, components, applications, data. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { LabAccess } from './access.ts';
import { applicationManifests, applicationNamespace } from './applications.ts';
import { clusterConfiguration, passwords } from './cluster-config.ts';
import { componentsOf, type Component } from './components.ts';
import { appendToLedger, askTargets, ledgerUrl, runningTargets, startLedger } from './ledger.ts';
import { run } from './run.ts';
import { buildServicePackage, profileFromEnvironment, type Profile } from './service-package.ts';

export interface InstallOptions {
  profile?: Profile;
  /** `proton-cli`: as on the platform, by apply on the first old machine. `helm`: the charts and custom resources directly. */
  method?: 'proton-cli' | 'helm';
  /** MiB of data over all components together; default LAB_DATA_MB or 16. */
  dataMegabytes?: number;
  /** How often the client writes to each ordinal, e.g. `500ms`. */
  interval?: string;
  /** Seconds until everything has to be ready; default 420. */
  deadlineSeconds?: number;
}

export const packageDirectory = '/opt/proton-package';

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function bytesFromEnvironment(): number {
  const value = Number(process.env['LAB_DATA_MB'] ?? '16');
  if (!Number.isFinite(value) || value < 0)
    throw new Error(`LAB_DATA_MB=${String(process.env['LAB_DATA_MB'])}: not a number of MiB`);
  return value;
}

async function applyManifests(access: LabAccess, manifests: readonly object[]): Promise<void> {
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: manifests });
  await access.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input });
}

function secret(namespace: string, name: string, stringData: Record<string, string>): object {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace }, stringData };
}

/** Namespaces, and the Secrets that are there before the first apply of the lab. What exists is left: it may have moved on since. */
async function prepareCluster(access: LabAccess, profile: Profile): Promise<void> {
  const namespaces = ['proton', 'resource', applicationNamespace];
  const account = { username: 'root', password: passwords.mariadbAdmin };
  const recorded = clusterConfiguration(access.old, profile, access.firewall);
  await applyManifests(
    access,
    namespaces.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
  );
  for (const object of [
    secret('proton', 'proton-cli-config', { ClusterConfiguration: recorded }),
    secret('resource', 'proton-mariadb-proton-rds', account),
    secret('resource', 'mongodb-secret', { username: 'root', password: passwords.mongodbAdmin }),
    secret('resource', 'nebula', { password: passwords.nebula }),
    secret('resource', 'etcdssl-secret', { 'ca.crt': '' }),
  ]) {
    const create = ['create', '-f', '-'];
    const { code, stderr } = await access.kubectl(create, { input: JSON.stringify(object), allowFailure: true });
    if (code !== 0 && !stderr.includes('AlreadyExists')) throw new Error(`kubectl create: ${stderr.trim()}`);
  }
}

/** Something in the container registry's storage, which is a host service's directory and no component's. */
async function prepareHostServices(access: LabAccess): Promise<void> {
  const script = `set -e
cd /sysvol/proton_data/cr_data 2>/dev/null || { mkdir -p /sysvol/proton_data/cr_data; cd /sysvol/proton_data/cr_data; }
[ -e complete ] && exit 0
mkdir -p chartmuseum registry/docker/registry/v2/blobs rpm
for i in 1 2 3 4 5 6 7 8; do head -c 65536 /dev/urandom > registry/docker/registry/v2/blobs/$i; done
ln registry/docker/registry/v2/blobs/1 registry/docker/registry/v2/blobs/linked
head -c 4096 /dev/urandom > chartmuseum/application-1.0.0.tgz
: > complete
`;
  for (const machine of access.old.slice(0, 2)) await access.onMachine(machine, ['sh', '-s'], { input: script });
}

async function applyWithProtonCli(access: LabAccess, profile: Profile): Promise<void> {
  const [first] = access.old;
  if (first === undefined) throw new Error('the lab has no old machine');
  const file = '/root/lab-cluster.yaml';
  const input = clusterConfiguration(access.old, profile, access.firewall);
  await access.onMachine(first, ['sh', '-c', `umask 077; cat > ${file}`], { input });
  access.progress('proton-cli apply on old1');
  const command = ['env', '-C', packageDirectory, 'proton-cli', 'apply', '-f', file];
  const { stdout } = await access.onMachine(first, command, { timeout: 900_000 });
  if (!stdout.includes('Apply conf success')) throw new Error(`proton-cli apply said nothing of success: ${stdout}`);
}

/** Folders that component-manage would have prepared on a host. */
export function foldersOf(component: Component): string[] {
  const { name, dataPath } = component;
  if (name !== 'nebula') return [dataPath];
  return ['logs/graphd', 'logs/metad', 'data/metad', 'data/graphd/0'].map((part) => `${dataPath}/${part}`);
}

/** The custom resource as component-manage writes it. */
export function customResource(component: Component, hosts: readonly string[]): object {
  const { name, dataPath: path } = component;
  const metadata = { name, namespace: 'resource' };
  const places = hosts.map((host) => ({ host, path }));
  if (name === 'mariadb') {
    const storage = { capacity: '1Gi', storageClassName: '', volumeSpec: places };
    const spec = { replicas: hosts.length, secretName: 'proton-mariadb-proton-rds', mariadb: { storage } };
    return { apiVersion: 'rds.proton.aishu.cn/v1', kind: 'RDSMariaDBCluster', metadata, spec };
  }
  if (name === 'mongodb') {
    const storage = { capacity: '1Gi', storageClassName: '', volume: places };
    const spec = { secretname: 'mongodb-secret', mongodb: { replicas: hosts.length, storage } };
    return { apiVersion: 'mongodb.proton.aishu.cn/v1', kind: 'MongodbOperator', metadata, spec };
  }
  const log = (kind: string): string => `${path}/logs/${kind}`;
  const spec = {
    enablePVReclaim: true,
    graphd: { replicas: hosts.length, volume: hosts.map((host) => ({ host, logpath: log('graphd') })) },
    metad: {
      replicas: hosts.length,
      volume: hosts.map((host) => ({ host, logpath: log('metad'), datapath: `${path}/data/metad` })),
    },
    storaged: {
      replicas: hosts.length,
      volume: hosts.map((host) => ({ host, logpath: log('metad'), datapath: [`${path}/data/graphd/0`] })),
    },
  };
  return { apiVersion: 'apps.nebula-graph.io/v1alpha1', kind: 'NebulaCluster', metadata, spec };
}

/** Chart values as proton-cli and component-manage pass them; `params` are the component's own. */
export function chartValues(
  component: Component,
  hosts: readonly string[],
  params: Readonly<Record<string, unknown>> = {},
): object {
  const password = params['admin_passwd'];
  const auth = component.name === 'redis' && typeof password === 'string' ? { auth: { password } } : {};
  const local = Object.fromEntries(hosts.map((host, index) => [String(index), { host, path: component.dataPath }]));
  return { replicaCount: hosts.length, namespace: 'resource', storage: { local, capacity: '1Gi' }, ...auth };
}

async function helmInstall(
  release: { name: string; namespace: string },
  archive: string,
  values: object,
): Promise<void> {
  const command = ['helm3', 'upgrade', '--install', release.name, archive, '-n', release.namespace, '-f', '-'];
  await run(command, { input: stringify(values) });
}

async function installDirectly(access: LabAccess, profile: Profile): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lab-package-'));
  try {
    await buildServicePackage(folder, profile);
    const charts = join(folder, 'service-package', 'charts');
    const archives = await readdir(charts);
    const archiveOf = (chart: string): string => {
      const found = archives.find((file) => file.startsWith(`${chart}-`) && /^-\d/.test(file.slice(chart.length)));
      if (found === undefined) throw new Error(`the package has no chart ${chart}`);
      return join(charts, found);
    };
    await helmInstall({ name: 'component-manage', namespace: 'resource' }, archiveOf('component-manage'), {});
    for (const component of componentsOf(profile)) {
      access.progress(`install ${component.name}`);
      const machines = access.old.slice(0, component.hosts);
      const hosts = machines.map(({ name }) => name);
      for (const machine of machines) await access.onMachine(machine, ['mkdir', '-p', ...foldersOf(component)]);
      const { release, resource } = component;
      if (release !== undefined)
        await helmInstall(
          release,
          archiveOf(release.chart),
          chartValues(component, hosts, { admin_passwd: passwords.redis }),
        );
      if (resource === undefined) continue;
      await helmInstall(resource.operator, archiveOf(resource.operator.chart), {});
      await applyManifests(access, [customResource(component, hosts)]);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface WorkloadStatus {
  kind: string;
  metadata: { name: string; namespace: string; generation?: number };
  spec: { replicas?: number };
  status?: {
    observedGeneration?: number;
    readyReplicas?: number;
    updatedReplicas?: number;
    numberReady?: number;
    desiredNumberScheduled?: number;
  };
}

function unready({ kind, metadata, spec, status }: WorkloadStatus): string | undefined {
  const wanted = kind === 'DaemonSet' ? (status?.desiredNumberScheduled ?? -1) : (spec.replicas ?? 1);
  const ready = kind === 'DaemonSet' ? (status?.numberReady ?? 0) : (status?.readyReplicas ?? 0);
  if ((status?.observedGeneration ?? 0) >= (metadata.generation ?? 0) && ready === wanted) return undefined;
  return `${metadata.namespace}/${metadata.name} ${ready}/${wanted}`;
}

/** Waits until every workload of the namespaces is ready and the StatefulSets named exist; says what it waits for. */
export async function awaitWorkloads(
  access: LabAccess,
  namespaces: readonly string[],
  expected: readonly string[],
  deadlineSeconds: number,
): Promise<void> {
  const deadline = Date.now() + deadlineSeconds * 1000;
  let said = 0;
  for (;;) {
    const waiting: string[] = [];
    for (const namespace of namespaces) {
      const { stdout } = await access.kubectl([
        '-n',
        namespace,
        'get',
        'deployments,statefulsets,daemonsets',
        '-o',
        'json',
      ]);
      const { items } = JSON.parse(stdout) as { items: WorkloadStatus[] };
      const names = new Set(
        items.filter(({ kind }) => kind === 'StatefulSet').map((item) => `${namespace}/${item.metadata.name}`),
      );
      const absent = expected.filter((name) => name.startsWith(`${namespace}/`) && !names.has(name));
      waiting.push(...absent.map((name) => `${name} absent`));
      waiting.push(...items.flatMap((item) => unready(item) ?? []));
    }
    if (waiting.length === 0) return;
    if (Date.now() > deadline)
      throw new Error(`not ready after ${deadlineSeconds} s: ${waiting.join(', ')}; look with kubectl get pods -A`);
    if (Date.now() - said > 5000) {
      said = Date.now();
      access.progress(
        `waiting for ${waiting.slice(0, 6).join(', ')}${waiting.length > 6 ? ` and ${waiting.length - 6} more` : ''}`,
      );
    }
    await sleep(1000);
  }
}

/** Namespaces in which the platform of a profile runs workloads (applications not counted). */
export function platformNamespaces(profile: Profile): string[] {
  const operators = { mariadb: 'rds-mariadb', mongodb: 'mongodb', nebula: 'nebula' } as const;
  const used = componentsOf(profile).flatMap(({ name }) =>
    name === 'mariadb' || name === 'mongodb' || name === 'nebula' ? [`proton-${operators[name]}-operator-system`] : [],
  );
  return ['resource', ...used];
}

/** Gives every ordinal its share of data: records for real servers, a folder of files that are hard to move for the others. */
export async function seedData(access: LabAccess, profile: Profile, megabytes = bytesFromEnvironment()): Promise<void> {
  const targets = await runningTargets(access, componentsOf(profile));
  const share = Math.floor((megabytes * 1024 * 1024) / Math.max(targets.length, 1));
  const seedable = targets.filter((target) => target.seedable);
  const files = Math.min(200, Math.ceil(3000 / Math.max(seedable.length, 1)));
  for (const target of seedable) {
    const url = `http://${target.address}/seed?bytes=${share}&files=${files}`;
    const answer = await fetch(url, { method: 'POST' });
    if (!answer.ok)
      throw new Error(`seed ${target.component}-${target.ordinal}: ${answer.status} ${await answer.text()}`);
    const { digest, entries } = (await answer.json()) as { digest: string; entries: number };
    const { component, ordinal } = target;
    await appendToLedger(access, `${JSON.stringify({ component, ordinal, tree: digest, entries })}\n`);
  }
  const servers = targets.filter((target) => !target.seedable && target.protocol !== 'writer');
  // etcd is no place for bulk data
  const filled = await askTargets(access, ['fill', '--bytes', String(Math.min(share, 4 * 1024 * 1024))], servers);
  if (filled !== '') await appendToLedger(access, filled);
}

/** Installs the platform and its applications, waits until all is ready, and fills it with data. Safe to run again. */
export async function installPlatform(access: LabAccess, options: InstallOptions = {}): Promise<void> {
  const profile = options.profile ?? profileFromEnvironment();
  const deadline = options.deadlineSeconds ?? 420;
  const components = componentsOf(profile);
  const sources = components.flatMap((component) => component.sources);
  await startLedger(access);
  access.progress(`platform: ${components.length} components (${profile})`);
  await prepareCluster(access, profile);
  await prepareHostServices(access);
  if (options.method === 'helm') await installDirectly(access, profile);
  else await applyWithProtonCli(access, profile);
  const expected = sources.map(({ namespace, statefulSet }) => `${namespace}/${statefulSet}`);
  await awaitWorkloads(access, platformNamespaces(profile), expected, deadline);
  access.progress('seed data');
  await seedData(access, profile, options.dataMegabytes ?? bytesFromEnvironment());
  access.progress('applications');
  await applyManifests(access, applicationManifests(sources, ledgerUrl(access), options.interval));
  await awaitWorkloads(access, [applicationNamespace], [`${applicationNamespace}/search-index`], deadline);
}
