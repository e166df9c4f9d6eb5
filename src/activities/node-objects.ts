import type { Evidence } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { errorText, needsHuman, transient } from './failures.ts';
import {
  ApiError,
  classifyApiError,
  ifThere,
  type KubernetesApi,
  type KubernetesObject,
  onApi,
  path,
} from './kubernetes-api.ts';
import { type Look, poll } from './polling.ts';

/* Nodes as objects of the API: their taints, their pods, their end. */

interface Taint {
  key: string;
  value?: string;
  effect: string;
}
interface Node extends KubernetesObject {
  spec?: { unschedulable?: boolean; taints?: Taint[] };
  status?: { conditions?: { type: string; status: string }[] };
}
interface Pod extends KubernetesObject {
  spec: { nodeName?: string };
  status?: { phase?: string };
}
interface Selector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}
interface DisruptionBudget extends KubernetesObject {
  spec: { selector?: Selector | null };
  status?: { disruptionsAllowed?: number; currentHealthy?: number; desiredHealthy?: number };
}

/** How often a conflict is answered by reading again before Temporal waits a while. */
const conflictTries = 5;

export async function matchTaints(api: KubernetesApi, input: { node: string; like: string }): Promise<Evidence> {
  const { node: name, like } = input;
  const untouched = `all taints of ${name} but those of its role`;
  return onApi(api, `Matching the taints of ${name} with those of ${like}`, untouched, async () => {
    const model = await requireNode(api, like);
    const kept = (taint: Taint): boolean =>
      !taint.key.startsWith('node-role.kubernetes.io/') ||
      !['NoSchedule', 'NoExecute'].includes(taint.effect) ||
      taintsOf(model).some(({ key, effect }) => key === taint.key && effect === taint.effect);
    const taken = new Set<string>();
    for (let attempt = 1; attempt <= conflictTries; attempt += 1) {
      const node = await requireNode(api, name);
      const surplus = taintsOf(node).filter((taint) => !kept(taint));
      if (surplus.length === 0) {
        const before =
          taken.size === 0 ? `has no taint of its role that ${like} lacks` : `lost ${[...taken].join(', ')}`;
        return { changed: taken.size > 0, proof: `${name} ${before}` };
      }
      for (const { key, effect } of surplus) taken.add(`${key}:${effect}`);
      const taints = taintsOf(node).filter(kept);
      await unlessConflict(() =>
        api.request('PATCH', path('v1', undefined, 'nodes', name), {
          body: { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { taints } },
        }),
      );
    }
    throw busy(name, untouched);
  });
}

function taintsOf(node: Node): Taint[] {
  return node.spec?.taints ?? [];
}

async function requireNode(api: KubernetesApi, name: string): Promise<Node> {
  const node = await api.find<Node>(path('v1', undefined, 'nodes', name));
  if (node !== undefined) return node;
  throw needsHuman({
    what: `There is no Node ${name}`,
    cause: 'the API server does not know it',
    untouched: 'all Nodes',
    next: `kubectl get nodes; start kubelet on ${name} if it should be one, then: ferry resume`,
  });
}

/** A conflict means: look again. */
async function unlessConflict(write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (classifyApiError(error) !== 'conflict') throw error;
  }
}

function busy(name: string, untouched: string): Error {
  return transient({
    what: `Node ${name} could not be written`,
    cause: `somebody else wrote it each of ${conflictTries} times between reading and writing`,
    untouched,
    next: 'it is tried again by itself; if it stays so, find the other writer',
  });
}

/** Cordons a node; false when it was cordoned. */
async function cordon(api: KubernetesApi, name: string): Promise<boolean> {
  let wrote = false;
  for (let attempt = 1; attempt <= conflictTries; attempt += 1) {
    const node = await requireNode(api, name);
    if (node.spec?.unschedulable === true) return wrote;
    wrote = true;
    await unlessConflict(() =>
      api.request('PATCH', path('v1', undefined, 'nodes', name), {
        body: { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { unschedulable: true } },
      }),
    );
  }
  throw busy(name, 'all pods of it');
}

/** Seconds past the end of its grace after which a pod of a silent node counts as gone: nobody there can confirm it. As the platform's tool. */
const overdueSeconds = 30;

export async function drainNode(api: KubernetesApi, deadlines: Deadlines, input: { node: string }): Promise<Evidence> {
  const { node: name } = input;
  const untouched = `pods of other nodes; what was evicted from ${name} runs elsewhere or waits`;
  return onApi(api, `Draining ${name}`, untouched, async () => {
    const resource = path('v1', undefined, 'nodes', name);
    if ((await api.find<Node>(resource)) === undefined) return { changed: false, proof: `there is no Node ${name}` };
    // Before anything changes: the tool stops half-way at a pod that nothing would make again.
    const bare = (await evictable(api, name)).filter(isBare).map(describePod);
    if (bare.length > 0) {
      throw needsHuman({
        what: `${name} cannot be drained`,
        cause: `nothing would start ${bare.join(', ')} again: no controller owns ${bare.length === 1 ? 'it' : 'them'}`,
        untouched: `${name}, and all its pods`,
        next: 'delete these pods when nobody needs them (kubectl delete pod), then: ferry resume',
      });
    }
    const cordoned = await cordon(api, name);
    const evicted = new Set<string>();
    const left = await poll(
      () => evictAll(api, name, evicted),
      { deadline: deadlines.drained },
      (waiting) =>
        needsHuman({
          what: `${name} does not become empty`,
          cause: `after ${deadlines.drained / 1000} s: ${waiting}`,
          untouched,
          next: `let these pods go (kubectl get pdb -A; kubectl describe pod), then: ferry resume. ${name} stays cordoned`,
        }),
    );
    const silent = left.length === 0 ? '' : `; its kubelet is silent, so nobody can say that ${left.join(', ')} ended`;
    return {
      changed: cordoned || evicted.size > 0,
      proof: `${name} is cordoned, ${evicted.size} ${evicted.size === 1 ? 'pod' : 'pods'} evicted, none left but those of DaemonSets and its own static ones${silent}`,
    };
  });
}

/** Pods of a node that have to go: not those of DaemonSets, nor the node's own static ones, nor those that have ended. */
async function evictable(api: KubernetesApi, name: string): Promise<Pod[]> {
  const pods = await api.list<Pod>(path('v1', undefined, 'pods'), { fieldSelector: `spec.nodeName=${name}` });
  return pods.filter(
    ({ metadata, status }) =>
      metadata.annotations?.['kubernetes.io/config.mirror'] === undefined &&
      !metadata.ownerReferences?.some(({ kind, controller }) => kind === 'DaemonSet' && controller === true) &&
      !['Succeeded', 'Failed'].includes(status?.phase ?? ''),
  );
}

function isBare({ metadata }: Pod): boolean {
  return (
    metadata.deletionTimestamp === undefined && !metadata.ownerReferences?.some(({ controller }) => controller === true)
  );
}

function describePod({ metadata }: Pod): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

/** One round of evictions; done with the names of those that only a silent kubelet still holds. */
async function evictAll(api: KubernetesApi, name: string, evicted: Set<string>): Promise<Look<string[]>> {
  const pods = await evictable(api, name);
  const node = await api.find<Node>(path('v1', undefined, 'nodes', name));
  const ready = node?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
  const overdue = pods.filter((pod) => !ready && isOverdue(pod));
  const waiting: string[] = [];
  for (const pod of pods) {
    if (overdue.includes(pod)) continue;
    if (pod.metadata.deletionTimestamp !== undefined) {
      waiting.push(`${describePod(pod)} ends`);
      continue;
    }
    const refused = await evict(api, pod);
    if (refused === undefined) evicted.add(pod.metadata.uid ?? '');
    waiting.push(refused === undefined ? `${describePod(pod)} ends` : `${describePod(pod)}: ${refused}`);
  }
  if (waiting.length === 0) return { done: true, value: overdue.map(describePod) };
  return { done: false, waiting: waiting.slice(0, 12).join('; ') };
}

function isOverdue({ metadata }: Pod): boolean {
  const end = metadata.deletionTimestamp;
  return end !== undefined && Date.parse(end) + overdueSeconds * 1000 < Date.now();
}

/** Asks for one eviction; answers why it is refused for now. */
async function evict(api: KubernetesApi, pod: Pod): Promise<string | undefined> {
  const { namespace = '', name, uid } = pod.metadata;
  const resource = `${path('v1', namespace, 'pods', name)}/eviction`;
  const body = {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { namespace, name },
    // Never the pod that came in the place of this one.
    deleteOptions: { preconditions: { uid } },
  };
  try {
    await ifThere(() => api.request('POST', resource, { body }));
    return undefined;
  } catch (error) {
    if (classifyApiError(error) === 'conflict') return undefined;
    const isRefusal = error instanceof ApiError && (error.code === 429 || error.code === 500);
    if (!isRefusal) throw error;
    const budgets = await budgetsOf(api, pod);
    return budgets.length === 0 ? errorText(error) : budgets.join(', ');
  }
}

/** Disruption budgets that hold a pod, and what they say. */
async function budgetsOf(api: KubernetesApi, { metadata }: Pod): Promise<string[]> {
  const { namespace = '', labels = {} } = metadata;
  const budgets = await api.list<DisruptionBudget>(path('policy/v1', namespace, 'poddisruptionbudgets'));
  return budgets
    .filter(({ spec, status }) => selects(spec.selector, labels) && (status?.disruptionsAllowed ?? 0) < 1)
    .map(
      (budget) =>
        `PodDisruptionBudget ${namespace}/${budget.metadata.name} needs ${budget.status?.desiredHealthy ?? '?'} healthy pods and has ${budget.status?.currentHealthy ?? '?'}`,
    );
}

export function selects(selector: Selector | null | undefined, labels: Readonly<Record<string, string>>): boolean {
  if (selector === null || selector === undefined) return false;
  const exact = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return (
    exact &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value);
        case 'NotIn':
          return value === undefined || !values.includes(value);
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
        default:
          return false;
      }
    })
  );
}

export async function deleteNode(
  api: KubernetesApi,
  deadlines: Deadlines,
  input: { node: string; configNamespace: string },
): Promise<Evidence> {
  const { node: name, configNamespace } = input;
  const untouched = 'all other Nodes';
  return onApi(api, `Deleting Node ${name}`, untouched, async () => {
    const resource = path('v1', undefined, 'nodes', name);
    const node = await api.find<Node>(resource);
    const deleted = node !== undefined;
    if (deleted) {
      await ifThere(() => api.request('DELETE', resource, { body: { preconditions: { uid: node.metadata.uid } } }));
    }
    const cron = await deleteCronJob(api, configNamespace, `proton-cs-backup-${name}`);
    await proveAway(api, deadlines, name, node?.metadata.uid);
    const job = cron ? `; CronJob ${configNamespace}/proton-cs-backup-${name} with it` : '';
    return {
      changed: deleted || cron,
      proof: `Node ${name} is gone and did not come back within ${deadlines.nodeStaysAway / 1000} s${job}`,
    };
  });
}

async function deleteCronJob(api: KubernetesApi, namespace: string, name: string): Promise<boolean> {
  const resource = path('batch/v1', namespace, 'cronjobs', name);
  const job = await api.find<KubernetesObject>(resource);
  if (job === undefined) return false;
  return ifThere(() =>
    api.request('DELETE', resource, {
      body: { propagationPolicy: 'Background', preconditions: { uid: job.metadata.uid } },
    }),
  );
}

/** A kubelet that still runs registers its Node again. */
async function proveAway(
  api: KubernetesApi,
  deadlines: Deadlines,
  name: string,
  uid: string | undefined,
): Promise<void> {
  const end = Date.now() + deadlines.nodeStaysAway;
  await poll<undefined>(
    async () => {
      const node = await api.find<Node>(path('v1', undefined, 'nodes', name));
      if (node !== undefined && node.metadata.uid !== uid) throw comesBack(name);
      if (node === undefined && Date.now() >= end) return { done: true, value: undefined };
      return { done: false, waiting: node === undefined ? `${name} stays away` : `${name} is being deleted` };
    },
    { deadline: deadlines.nodeStaysAway + 60_000 },
    (waiting) =>
      transient({
        what: `Node ${name} does not go`,
        cause: waiting,
        untouched: 'all other Nodes',
        next: `it is tried again by itself; if it stays so: kubectl get node ${name} -o yaml, and look for finalizers`,
      }),
  );
}

function comesBack(name: string): Error {
  return needsHuman({
    what: `Node ${name} comes back`,
    cause: 'a kubelet that still runs has registered it again',
    untouched: 'all other Nodes',
    next: `systemctl disable --now kubelet on ${name}, then: ferry resume`,
  });
}
