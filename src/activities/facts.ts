import { lookup } from 'node:dns/promises';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import { lookUpHostKeys } from '../hosts/known-hosts.ts';
import type { KnownHost } from '../hosts/known-hosts.ts';
import { componentRows, componentTable } from '../plan/components.ts';
import { componentsSecretName } from '../plan/components-secret.ts';
import { configKey } from '../plan/config-edit.ts';
import { componentFacts, configFacts } from '../plan/config-facts.ts';
import type { ComponentFact, DestinationFact, Facts, HostFact, NodeFact, SourceFact } from '../plan/facts.ts';
import type { ComponentKind, Plan } from '../plan/plan.ts';
import { measureDirectory, measureFreeSpace } from './directories.ts';
import { errorText, needsHuman } from './failures.ts';
import { type KubernetesApi, type KubernetesObject, path } from './kubernetes-api.ts';
import { configSecretName, decode, requireSecret } from './platform-secrets.ts';

export interface FactsInput {
  mapping: Plan['mapping'];
  /** Addresses of machines whose names do not resolve here. */
  addresses?: Readonly<Record<string, string>>;
  user?: string;
  port?: number;
  configNamespace?: string;
  resourceNamespace?: string;
  newDataPaths?: Partial<Record<ComponentKind, string>>;
  /** Whether sizes are measured, which reads every directory once. Default true. */
  measure?: boolean;
}

export interface FactsDeps {
  api: KubernetesApi;
  hosts: Hosts;
  knownHosts: readonly KnownHost[];
  /** One line about what is looked at now, for people. */
  progress?: (line: string) => void;
}

interface Node extends KubernetesObject {
  status?: {
    addresses?: { type: string; address: string }[];
    conditions?: { type: string; status: string }[];
    nodeInfo?: { containerRuntimeVersion?: string; kubeletVersion?: string };
  };
}
interface Pod extends KubernetesObject {
  spec: { nodeName?: string };
}
interface Claim extends KubernetesObject {
  spec: { volumeName?: string };
}
interface Volume extends KubernetesObject {
  spec: {
    persistentVolumeReclaimPolicy?: string;
    local?: { path: string };
    nodeAffinity?: {
      required?: { nodeSelectorTerms?: { matchExpressions?: { key: string; values?: string[] }[] }[] };
    };
  };
}

const platformUnits = [
  'docker.socket',
  'docker.service',
  'kubelet.service',
  'containerd.service',
  'proton-cr.service',
  'proton-cr-registry.service',
  'proton-cr-chartmuseum.service',
];
const packageCandidates = ['/opt/proton-package', '/root/proton-package', '/root/proton', '/opt/proton'];

/** Looks at the live platform and the machines of the mapping. Changes nothing. Values of Secrets stay inside. */
export async function observeFacts(deps: FactsDeps, input: FactsInput): Promise<Facts> {
  const { api } = deps;
  const progress = deps.progress ?? (() => undefined);
  const configNamespace = input.configNamespace ?? 'proton';
  const resourceNamespace = input.resourceNamespace ?? 'resource';

  progress(`reading the configuration of the platform (${api.server})`);
  const document = await readConfig(api, configNamespace);
  const records = await readRecords(api, resourceNamespace);
  const nodes = await observeNodes(api);
  const components: ComponentFact[] = [];
  for (const component of componentFacts(document, records, resourceNamespace)) {
    components.push(await observeComponent(api, component));
  }
  const config = configFacts(document);
  const facts: Facts = {
    takenAt: new Date().toISOString(),
    server: api.server,
    configNamespace,
    resourceNamespace,
    ...(await kubernetesVersion(api)),
    nodes,
    config,
    components,
    applicationNamespaces: await applicationNamespaces(api, configNamespace, resourceNamespace),
    hosts: [],
    sources: [],
    destinations: [],
  };
  const names = new Set([
    ...config.nodes.map((node) => node.name),
    ...input.mapping.flatMap(({ from, to }) => [from, to]),
  ]);
  facts.hosts = await Promise.all(
    [...names].map(async (name) => {
      progress(`asking ${name}`);
      return observeHost(deps, input, nodes, config.nodes, name);
    }),
  );
  if (input.measure ?? true) await measure(deps, input, facts, progress);
  return facts;
}

/** The configuration document of the platform. It holds secret values. */
export async function readConfig(api: KubernetesApi, namespace: string): Promise<string> {
  const document = decode(await requireSecret(api, namespace, configSecretName))[configKey];
  if (document !== undefined && document.trim() !== '') return document;
  throw needsHuman({
    what: `The Secret ${namespace}/${configSecretName} has no ${configKey}`,
    cause: 'the platform would take this for "nothing installed"',
    untouched: 'everything',
    next: 'restore it from a backup',
  });
}

/** What component-manage recorded, by key. It holds secret values. */
export async function readRecords(api: KubernetesApi, namespace: string): Promise<Record<string, string>> {
  return decode(await requireSecret(api, namespace, componentsSecretName));
}

export async function observeNodes(api: KubernetesApi): Promise<NodeFact[]> {
  const nodes = await api.list<Node>(path('v1', undefined, 'nodes'));
  return nodes.map(({ metadata, status }) => {
    const labels = metadata.labels ?? {};
    const address = status?.addresses?.find((entry) => entry.type === 'InternalIP')?.address;
    const hostnameLabel = labels['kubernetes.io/hostname'];
    const runtime = status?.nodeInfo?.containerRuntimeVersion;
    return {
      name: metadata.name,
      ...(address === undefined ? {} : { address }),
      controlPlane: Object.keys(labels).some((label) =>
        /^node-role\.kubernetes\.io\/(control-plane|master)$/.test(label),
      ),
      ready: status?.conditions?.some(({ type, status: state }) => type === 'Ready' && state === 'True') ?? false,
      ...(hostnameLabel === undefined ? {} : { hostnameLabel }),
      ...(runtime === undefined ? {} : { runtime }),
    };
  });
}

async function kubernetesVersion(api: KubernetesApi): Promise<{ kubernetesVersion?: string }> {
  const { gitVersion } = await api.request<{ gitVersion?: string }>('GET', '/version');
  return gitVersion === undefined ? {} : { kubernetesVersion: gitVersion };
}

/** Fills in what the live objects of a component say; names the platform does not document are looked up. */
export async function observeComponent(api: KubernetesApi, component: ComponentFact): Promise<ComponentFact> {
  const resolved =
    componentTable[component.kind].runTime === undefined ? component : await resolveNames(api, component);
  const replicas = [];
  for (const replica of resolved.replicas) {
    const pod = await api.find<Pod>(path('v1', resolved.namespace, 'pods', replica.pod));
    const claim = await api.find<Claim>(path('v1', resolved.namespace, 'persistentvolumeclaims', replica.pvc));
    const pv = claim?.spec.volumeName ?? replica.pv;
    const volume = await api.find<Volume>(path('v1', undefined, 'persistentvolumes', pv));
    replicas.push({ ...replica, pv, live: liveFacts(pod, volume) });
  }
  return { ...resolved, replicas };
}

function liveFacts(pod: Pod | undefined, volume: Volume | undefined): ComponentFact['replicas'][number]['live'] {
  const expressions = (volume?.spec.nodeAffinity?.required?.nodeSelectorTerms ?? []).flatMap(
    (term) => term.matchExpressions ?? [],
  );
  const volumeHost = expressions.find((expression) => expression.key === 'kubernetes.io/hostname')?.values?.[0];
  const node = pod?.spec.nodeName;
  const volumePath = volume?.spec.local?.path;
  const reclaimPolicy = volume?.spec.persistentVolumeReclaimPolicy;
  return {
    ...(node === undefined ? {} : { node }),
    ...(volumeHost === undefined ? {} : { volumeHost }),
    ...(volumePath === undefined ? {} : { volumePath }),
    ...(reclaimPolicy === undefined ? {} : { reclaimPolicy }),
  };
}

async function resolveNames(api: KubernetesApi, component: ComponentFact): Promise<ComponentFact> {
  const { runTime } = componentTable[component.kind];
  if (runTime === undefined) return component;
  const namesOf = async (groupVersion: string, plural: string): Promise<string[]> =>
    (await api.list<KubernetesObject>(path(groupVersion, component.namespace, plural))).map(
      ({ metadata }) => metadata.name,
    );
  const claims = await namesOf('v1', 'persistentvolumeclaims');
  const sets = (await namesOf('apps/v1', 'statefulsets')).filter((name) => runTime.statefulSet.test(name));
  return {
    ...component,
    statefulSets: sets.length === 0 ? component.statefulSets : sets,
    replicas: component.replicas.map((replica) => {
      const own = claims.filter((name) => {
        const groups = runTime.claim.exec(name)?.groups;
        return groups?.['part'] === runTime.mainPart && Number(groups['ordinal']) === replica.ordinal;
      });
      // A main part may have a claim for logs as well; the data is what stands for the replica.
      const claim = own.find((name) => !name.includes('log')) ?? own[0];
      return claim === undefined ? replica : { ...replica, pvc: claim };
    }),
  };
}

const systemNamespaces = new Set(['default', 'kube-system', 'kube-public', 'kube-node-lease']);

/** Namespaces with workloads, without those of Kubernetes and of the platform itself. */
async function applicationNamespaces(api: KubernetesApi, config: string, resource: string): Promise<string[]> {
  const operators = componentRows.flatMap(({ workload }) =>
    workload.type === 'helm' ? [] : [workload.operator.namespace],
  );
  const own = new Set([...systemNamespaces, ...operators, config, resource]);
  const found = new Set<string>();
  for (const [groupVersion, plural] of [
    ['apps/v1', 'deployments'],
    ['apps/v1', 'statefulsets'],
    ['apps/v1', 'daemonsets'],
    ['batch/v1', 'cronjobs'],
  ] as const) {
    for (const { metadata } of await api.list<KubernetesObject>(path(groupVersion, undefined, plural))) {
      if (metadata.namespace !== undefined && !own.has(metadata.namespace)) found.add(metadata.namespace);
    }
  }
  return [...found].toSorted();
}

async function observeHost(
  deps: FactsDeps,
  input: FactsInput,
  nodes: readonly NodeFact[],
  configured: readonly { name: string; ip4?: string }[],
  name: string,
): Promise<HostFact> {
  const known = input.addresses?.[name] ?? configured.find((node) => node.name === name)?.ip4;
  const address = known ?? nodes.find((node) => node.name === name)?.address ?? (await resolve(name)) ?? name;
  const port = input.port ?? 22;
  const host = {
    name,
    address,
    port,
    user: input.user ?? 'root',
    hostKeys: lookUpHostKeys(deps.knownHosts, [name, address], port),
    role: 'other' as const,
  };
  if (host.hostKeys.length === 0) return { ...host, units: [], packageDirectories: [] };
  try {
    const connection = await deps.hosts.connect(host);
    const packageVersion = await readVersion(connection);
    return {
      ...host,
      ...(packageVersion === undefined ? {} : { packageVersion }),
      units: await existingUnits(connection),
      packageDirectories: await packageDirectories(connection),
      staticControlPlane: await hasStaticControlPlane(connection),
    };
  } catch (error) {
    return { ...host, units: [], packageDirectories: [], unreachable: errorText(error) };
  }
}

async function resolve(name: string): Promise<string | undefined> {
  try {
    return (await lookup(name, { family: 4 })).address;
  } catch {
    return undefined;
  }
}

/** The release of the dependency package that a machine has, undefined when it has none. */
export async function readVersion(connection: HostConnection): Promise<string | undefined> {
  const version = (await connection.readFile('/usr/local/share/proton-version.txt'))?.toString('utf8').trim();
  return version === '' ? undefined : version;
}

async function existingUnits(connection: HostConnection): Promise<string[]> {
  const result = await connection.run(['systemctl', 'show', '--property=Id,LoadState', '--', ...platformUnits], {
    timeout: 30_000,
  });
  return result.stdout.split('\n\n').flatMap((block) => {
    const id = /^Id=(?<id>.*)$/m.exec(block)?.groups?.['id'];
    return id !== undefined && /^LoadState=loaded$/m.test(block) ? [id] : [];
  });
}

/** Where kubeadm puts what kubelet starts by itself; a machine with both manifests is a member of etcd. */
export async function hasStaticControlPlane(connection: HostConnection): Promise<boolean> {
  const script = 'for f in "$@"; do test -f "$f" || exit 1; done';
  const manifests = ['etcd.yaml', 'kube-apiserver.yaml'].map((name) => `/etc/kubernetes/manifests/${name}`);
  const { code } = await connection.run(['sh', '-c', script, 'sh', ...manifests], { timeout: 30_000 });
  if (code !== 0 && code !== 1)
    throw new Error(`looking for the manifests of a master ended with exit ${code ?? 'by a signal'}`);
  return code === 0;
}

async function packageDirectories(connection: HostConnection): Promise<string[]> {
  const script = 'for d in "$@"; do if [ -d "$d/service-package/charts" ]; then echo "$d"; fi; done';
  const result = await connection.run(['sh', '-c', script, 'sh', ...packageCandidates], { timeout: 30_000 });
  return result.stdout.split('\n').filter((line) => line !== '');
}

async function measure(
  deps: FactsDeps,
  input: FactsInput,
  facts: Facts,
  progress: (line: string) => void,
): Promise<void> {
  const successors = new Map(input.mapping.map(({ from, to }) => [from, to]));
  const wanted = facts.components.flatMap((component) => {
    if (component.storageClassName !== undefined) return [];
    return component.replicas.map((replica) => {
      const dataPath = component.dataPath ?? replica.live.volumePath ?? componentTable[component.kind].defaultDataPath;
      return {
        source: { host: replica.host, path: dataPath },
        destination: {
          host: successors.get(replica.host) ?? replica.host,
          path: input.newDataPaths?.[component.kind] ?? dataPath,
        },
      };
    });
  });
  const storage = facts.config.registryStorage;
  for (const from of facts.config.registryHosts) {
    const to = successors.get(from);
    if (storage === undefined || to === undefined) continue;
    wanted.push({ source: { host: from, path: storage }, destination: { host: to, path: storage } });
  }
  const control = facts.config.masters[0] ?? '';
  const controlSuccessor = successors.get(control);
  const [packageDirectory] = facts.hosts.find(({ name }) => name === control)?.packageDirectories ?? [];
  if (controlSuccessor !== undefined && packageDirectory !== undefined) {
    wanted.push({
      source: { host: control, path: packageDirectory },
      destination: { host: controlSuccessor, path: packageDirectory },
    });
  }
  // One directory after the other per machine: its disks serve applications; machines work side by side.
  const sources = Map.groupBy(wanted, ({ source }) => source.host);
  const measured = await Promise.all(
    [...sources].map(async ([name, moves]) =>
      measureHost(
        deps,
        facts,
        name,
        moves.map(({ source }) => source.path),
        progress,
      ),
    ),
  );
  facts.sources = measured.flat();
  const destinations = Map.groupBy(wanted, ({ destination }) => destination.host);
  const spaces = await Promise.all(
    [...destinations].map(async ([name, moves]) =>
      spaceOfHost(
        deps,
        facts,
        name,
        moves.map(({ destination }) => destination.path),
      ),
    ),
  );
  facts.destinations = spaces.flat();
}

function reachable(facts: Facts, name: string): HostFact | undefined {
  return facts.hosts.find((host) => host.name === name && host.unreachable === undefined && host.hostKeys.length > 0);
}

async function measureHost(
  deps: FactsDeps,
  facts: Facts,
  name: string,
  paths: readonly string[],
  progress: (line: string) => void,
): Promise<SourceFact[]> {
  const host = reachable(facts, name);
  if (host === undefined) return [];
  const connection = await deps.hosts.connect(host);
  const found: SourceFact[] = [];
  for (const directory of new Set(paths)) {
    progress(`measuring ${name}:${directory}`);
    const size = await measureDirectory(connection, directory);
    if (size !== undefined) found.push({ host: name, path: directory, ...size });
  }
  return found;
}

async function spaceOfHost(
  deps: FactsDeps,
  facts: Facts,
  name: string,
  paths: readonly string[],
): Promise<DestinationFact[]> {
  const host = reachable(facts, name);
  if (host === undefined) return [];
  const connection = await deps.hosts.connect(host);
  const found: DestinationFact[] = [];
  for (const directory of new Set(paths)) {
    const { freeBytes, freeInodes } = await measureFreeSpace(connection, directory);
    found.push({ host: name, path: directory, freeBytes, freeInodes });
  }
  return found;
}
