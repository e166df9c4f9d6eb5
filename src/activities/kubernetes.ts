import { componentTable } from '../plan/components.ts';
import type { PlannedComponent, Replica } from '../plan/plan.ts';
import { createApplicationActivities } from './applications.ts';
import type { Evidence, KubernetesActivities, PlacementRow, WorkloadRecord } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { needsHuman } from './failures.ts';
import { type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { poll } from './polling.ts';
import { createUninstallActivities, type UninstallDeps } from './uninstall.ts';

interface Condition {
  type: string;
  status: string;
  message?: string;
}
interface Node extends KubernetesObject {
  status?: { conditions?: Condition[] };
}
interface Pod extends KubernetesObject {
  spec: { nodeName?: string };
  status?: {
    phase?: string;
    conditions?: Condition[];
    containerStatuses?: { state?: { waiting?: { reason?: string } } }[];
  };
}
interface Claim extends KubernetesObject {
  spec: { volumeName?: string };
}
interface PersistentVolume extends KubernetesObject {
  spec: {
    local?: { path: string };
    nodeAffinity?: {
      required?: {
        nodeSelectorTerms?: { matchExpressions?: { key: string; operator: string; values?: string[] }[] }[];
      };
    };
  };
}
interface StatefulSet extends KubernetesObject {
  spec: { replicas?: number };
  status?: { readyReplicas?: number; observedGeneration?: number };
}
interface Endpoints extends KubernetesObject {
  subsets?: { addresses?: { ip: string }[] }[];
}
interface Deployment extends KubernetesObject {
  spec: { replicas?: number };
  status?: {
    observedGeneration?: number;
    updatedReplicas?: number;
    availableReplicas?: number;
    unavailableReplicas?: number;
  };
}

export type KubernetesDeps = UninstallDeps;

/** Everything the migration asks of the Kubernetes API. */
export function createKubernetesActivities(deps: KubernetesDeps): KubernetesActivities {
  const { api, deadlines } = deps;
  return {
    ...createApplicationActivities(deps),
    ...createUninstallActivities(deps),
    awaitClusterHealthy: (input) => awaitClusterHealthy(api, deadlines, input),
    provePlacement: (input) => provePlacement(api, deadlines, input),
    repairMariadbMaster: (input) => repairMariadbMaster(api, deadlines, input.resourceNamespace),
    listNodes: () => listNodes(api),
  };
}

/** Names, readiness and role of all Nodes, sorted by name. */
export async function listNodes(
  api: KubernetesApi,
): Promise<{ name: string; ready: boolean; controlPlane: boolean }[]> {
  const nodes = await onApi(api, 'Listing the nodes', 'everything', () =>
    api.list<Node>(path('v1', undefined, 'nodes')),
  );
  return nodes
    .map((node) => ({
      name: node.metadata.name,
      ready: isTrue(node.status?.conditions, 'Ready'),
      controlPlane: ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'].some(
        (label) => node.metadata.labels?.[label] !== undefined,
      ),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === 'True') === true;
}

interface HealthInput {
  nodes: string[];
  namespaces: string[];
  illBefore?: WorkloadRecord[];
}

async function awaitClusterHealthy(
  api: KubernetesApi,
  deadlines: Deadlines,
  input: HealthInput,
): Promise<Evidence & { stillIll?: string[] }> {
  const stillIll = await poll(
    async () => {
      const { problems, tolerated } = await examine(api, input);
      return problems.length === 0 ? { done: true, value: tolerated } : { done: false, waiting: problems.join('; ') };
    },
    { deadline: deadlines.healthy },
    (waiting) =>
      needsHuman({
        what: 'The cluster does not become healthy',
        cause: `after ${deadlines.healthy / 1000} s: ${waiting}`,
        untouched: 'data and configuration; this step only looks',
        next: 'repair these nodes and pods (kubectl describe), then: ferry resume',
      }),
  );
  return {
    changed: false,
    proof: [
      `Nodes ${[...input.nodes].sort().join(', ')} and no others, all Ready`,
      `no unhealthy pod in ${input.namespaces.join(', ')}${stillIll.length === 0 ? '' : `, but of workloads that were not ready before the migration either: ${stillIll.join(', ')}`}`,
    ].join('; '),
    ...(stillIll.length === 0 ? {} : { stillIll }),
  };
}

/** What keeps a cluster from being sound, one clause each: nodes that are missing, too many or not Ready, and pods that are ill. */
export async function clusterProblems(
  api: KubernetesApi,
  input: { nodes: string[]; namespaces: string[] },
): Promise<string[]> {
  const { problems } = await examine(api, input);
  return problems;
}

/** `tolerated`: pods that are ill, of workloads that are no worse than before. */
async function examine(
  api: KubernetesApi,
  { nodes: wanted, namespaces, illBefore = [] }: HealthInput,
): Promise<{ problems: string[]; tolerated: string[] }> {
  const nodes = await listNodes(api);
  const names = nodes.map(({ name }) => name);
  const problems = [
    ...wanted.filter((name) => !names.includes(name)).map((name) => `node ${name} does not exist`),
    ...names.filter((name) => !wanted.includes(name)).map((name) => `node ${name} should not exist`),
    ...nodes.filter(({ name, ready }) => wanted.includes(name) && !ready).map(({ name }) => `node ${name} is NotReady`),
  ];
  const tolerated: string[] = [];
  for (const namespace of namespaces) {
    const pods = await onApi(api, 'Looking at the pods', 'everything', () =>
      api.list<Pod>(path('v1', namespace, 'pods')),
    );
    for (const pod of pods.filter((candidate) => !isHealthy(candidate))) {
      const known = illBefore.find((workload) => isOf(pod, workload));
      const isNoWorse = known !== undefined && isAsBefore(pods, known);
      (isNoWorse ? tolerated : problems).push(describePod(pod));
    }
  }
  return { problems, tolerated };
}

/** Of a Deployment by its ReplicaSet, whose name is the Deployment's and a hash that the pod carries as well. */
function isOf({ metadata }: Pod, { kind, namespace, name }: WorkloadRecord): boolean {
  if (metadata.namespace !== namespace) return false;
  const hash = metadata.labels?.['pod-template-hash'];
  return (
    metadata.ownerReferences?.some((owner) =>
      kind === 'Deployment'
        ? owner.kind === 'ReplicaSet' && hash !== undefined && owner.name === `${name}-${hash}`
        : owner.kind === kind && owner.name === name,
    ) === true
  );
}

function isAsBefore(pods: readonly Pod[], workload: WorkloadRecord): boolean {
  const ready = pods.filter((pod) => isOf(pod, workload) && !isHistory(pod) && isHealthy(pod));
  return typeof workload.ready === 'number' && ready.length >= workload.ready;
}

/** Finished and evicted pods are history, not illness. */
function isHistory(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

function isHealthy(pod: Pod): boolean {
  if (isHistory(pod)) return true;
  return (
    pod.status?.phase === 'Running' &&
    isTrue(pod.status.conditions, 'Ready') &&
    pod.metadata.deletionTimestamp === undefined
  );
}

function describePod(pod: Pod): string {
  const reason =
    pod.status?.containerStatuses?.find(({ state }) => state?.waiting?.reason !== undefined)?.state?.waiting?.reason ??
    pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False')?.message;
  const facts = [
    pod.status?.phase ?? 'Unknown',
    ...(reason === undefined ? [] : [reason]),
    ...(pod.spec.nodeName === undefined ? [] : [`on ${pod.spec.nodeName}`]),
    ...(pod.metadata.deletionTimestamp === undefined ? [] : ['terminating']),
  ];
  return `pod ${pod.metadata.namespace ?? ''}/${pod.metadata.name} (${facts.join(', ')})`;
}

async function provePlacement(
  api: KubernetesApi,
  deadlines: Deadlines,
  input: { components: PlannedComponent[]; side: 'from' | 'to' },
): Promise<{ proof: string; rows: PlacementRow[] }> {
  const rows = await poll(
    () =>
      onApi(api, 'Comparing the placement', 'everything; this step only looks', async () => {
        const found: PlacementRow[] = [];
        const missing: string[] = [];
        for (const component of input.components) {
          for (const replica of component.replicas) {
            const { row, wrong, waiting } = await placementOf(api, component, replica, input.side);
            if (wrong !== undefined) throw misplaced(component, replica, wrong);
            if (waiting !== undefined) missing.push(waiting);
            found.push(row);
          }
          missing.push(...(await unreadySets(api, component)));
        }
        return missing.length === 0
          ? { done: true, value: found }
          : { done: false, waiting: missing.slice(0, 12).join('; ') };
      }),
    { deadline: deadlines.placed, interval: 2000 },
    (waiting) =>
      needsHuman({
        what: 'Components are not all running where they belong',
        cause: `after ${deadlines.placed / 1000} s: ${waiting}`,
        untouched: 'data; this step only looks',
        next: 'look at these pods (kubectl describe pod, kubectl logs), then: ferry resume',
      }),
  );
  return {
    proof: `${rows.length} replicas of ${input.components.length} components: PVC, PV, path, node affinity and pod as planned, all Ready`,
    rows,
  };
}

function misplaced(component: PlannedComponent, replica: Replica, wrong: string): Error {
  return needsHuman({
    what: `${component.kind} ordinal ${replica.ordinal} is not where the plan puts it`,
    cause: wrong,
    untouched: 'data on both sides; this step only looks',
    next: `scale the component to 0, delete PVC ${replica.pvc} and PV ${replica.pv}, apply again; or: ferry abort`,
  });
}

/** `wrong` never becomes right by waiting; `waiting` may. */
async function placementOf(
  api: KubernetesApi,
  component: PlannedComponent,
  replica: Replica,
  side: 'from' | 'to',
): Promise<{ row: PlacementRow; wrong?: string; waiting?: string }> {
  const host = replica[side];
  const directory = side === 'from' ? component.dataPath : component.newDataPath;
  const [claim, volume, pod] = await Promise.all([
    api.find<Claim>(path('v1', component.namespace, 'persistentvolumeclaims', replica.pvc)),
    api.find<PersistentVolume>(path('v1', undefined, 'persistentvolumes', replica.pv)),
    api.find<Pod>(path('v1', component.namespace, 'pods', replica.pod)),
  ]);
  const ready = isTrue(pod?.status?.conditions, 'Ready') && pod?.metadata.deletionTimestamp === undefined;
  const node = pod?.spec.nodeName ?? '';
  const localPath = volume?.spec.local?.path ?? '';
  const row: PlacementRow = {
    component: component.kind,
    ordinal: replica.ordinal,
    pvc: replica.pvc,
    pv: claim?.spec.volumeName ?? '',
    pod: replica.pod,
    node,
    path: localPath,
    ready,
  };

  if (claim?.spec.volumeName !== undefined && claim.spec.volumeName !== replica.pv) {
    return { row, wrong: `PVC ${replica.pvc} is bound to PV ${claim.spec.volumeName} instead of ${replica.pv}` };
  }
  if (volume !== undefined) {
    const affinity = hostsOf(volume);
    if (affinity.length !== 1 || affinity[0] !== host) {
      return { row, wrong: `PV ${replica.pv} is for node ${affinity.join(', ') || 'any'} instead of ${host}` };
    }
    // Where an operator lays out the directory by itself, its volumes lie below it.
    const below = componentTable[component.kind].runTime !== undefined && localPath.startsWith(`${directory}/`);
    if (localPath !== directory && !below) {
      return { row, wrong: `PV ${replica.pv} has path ${localPath} instead of ${directory}` };
    }
  }
  if (pod !== undefined && pod.metadata.deletionTimestamp === undefined && node !== '' && node !== host) {
    return { row, wrong: `pod ${replica.pod} runs on ${node} instead of ${host}` };
  }
  if (claim === undefined) return { row, waiting: `PVC ${replica.pvc} does not exist yet` };
  if (claim.spec.volumeName === undefined) return { row, waiting: `PVC ${replica.pvc} is not bound yet` };
  if (volume === undefined) return { row, waiting: `PV ${replica.pv} does not exist yet` };
  if (pod === undefined) return { row, waiting: `pod ${replica.pod} does not exist yet` };
  return ready ? { row } : { row, waiting: describePod(pod) };
}

function hostsOf(volume: PersistentVolume): string[] {
  return (volume.spec.nodeAffinity?.required?.nodeSelectorTerms ?? []).flatMap(({ matchExpressions }) =>
    (matchExpressions ?? [])
      .filter(({ key, operator }) => key === 'kubernetes.io/hostname' && operator === 'In')
      .flatMap(({ values }) => values ?? []),
  );
}

async function unreadySets(api: KubernetesApi, component: PlannedComponent): Promise<string[]> {
  const problems: string[] = [];
  for (const name of component.statefulSets) {
    const set = await api.find<StatefulSet>(path('apps/v1', component.namespace, 'statefulsets', name));
    if (set === undefined) {
      // An operator may run its pods by a workload of its own; the pods were looked at by name.
      if (componentTable[component.kind].runTime === undefined) problems.push(`StatefulSet ${name} does not exist yet`);
      continue;
    }
    const wanted = set.spec.replicas ?? 1;
    const ready = set.status?.readyReplicas ?? 0;
    const seen = (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0);
    if (!seen || ready !== wanted || wanted === 0) problems.push(`StatefulSet ${name}: ${ready} of ${wanted} ready`);
  }
  return problems;
}

const masterService = 'mariadb-mariadb-master';

async function repairMariadbMaster(api: KubernetesApi, deadlines: Deadlines, namespace: string): Promise<Evidence> {
  const look = async (): Promise<number> => {
    const endpoints = await onApi(api, 'Looking for the MariaDB master', 'everything', () =>
      api.find<Endpoints>(path('v1', namespace, 'endpoints', masterService)),
    );
    return (endpoints?.subsets ?? []).flatMap(({ addresses }) => addresses ?? []).length;
  };
  const found = (count: number, changed: boolean): Evidence => ({
    changed,
    proof: `service ${namespace}/${masterService} has ${count} endpoint${count === 1 ? '' : 's'}${changed ? ' after a restart of its operator' : ''}`,
  });
  const settle = async (): Promise<number> => {
    try {
      return await poll(
        async () => {
          const count = await look();
          return count > 0
            ? { done: true, value: count }
            : { done: false, waiting: `${masterService} has no endpoint` };
        },
        { deadline: deadlines.masterService, interval: 2000 },
        () => new NoMaster(),
      );
    } catch (error) {
      if (error instanceof NoMaster) return 0;
      throw error;
    }
  };

  // The operator labels the master in its own loop: it gets its time before anything is restarted.
  const before = await settle();
  if (before > 0) return found(before, false);
  await restartOperator(api, deadlines);
  const after = await settle();
  if (after > 0) return found(after, true);
  throw needsHuman({
    what: 'MariaDB has no master',
    cause: `${namespace}/${masterService} has no endpoint, ${deadlines.masterService / 1000} s after its operator was restarted`,
    untouched: 'the data',
    next: `kubectl -n ${namespace} get pods -l app=mariadb-mariadb --show-labels; look at the operator's log, then: ferry resume`,
  });
}

class NoMaster extends Error {}

async function restartOperator(api: KubernetesApi, deadlines: Deadlines): Promise<void> {
  const { workload } = componentTable.mariadb;
  if (workload.type !== 'custom-resource') throw new Error('mariadb is served by an operator');
  const { namespace, deployment } = workload.operator;
  const resource = path('apps/v1', namespace, 'deployments', deployment);
  await onApi(api, 'Restarting the MariaDB operator', 'the database and its data', () =>
    api.request('PATCH', resource, {
      body: {
        spec: {
          template: { metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': new Date().toISOString() } } },
        },
      },
    }),
  );
  await poll(
    () =>
      onApi(api, 'Waiting for the MariaDB operator', 'the database and its data', async () => {
        const { metadata, spec, status } = await api.request<Deployment>('GET', resource);
        const wanted = spec.replicas ?? 1;
        const seen = (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);
        const updated = status?.updatedReplicas ?? 0;
        const done = seen && updated >= wanted && (status?.availableReplicas ?? 0) >= wanted;
        return done
          ? { done: true, value: undefined }
          : { done: false, waiting: `${updated} of ${wanted} replicas of ${deployment} restarted` };
      }),
    { deadline: deadlines.operator, interval: 2000 },
    (waiting) =>
      needsHuman({
        what: 'The MariaDB operator does not come back',
        cause: waiting,
        untouched: 'the database and its data',
        next: `kubectl -n ${namespace} rollout status deployment ${deployment}, then: ferry resume`,
      }),
  );
}
