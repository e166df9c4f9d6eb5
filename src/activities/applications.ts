import type { ApplicationRecord, Evidence, KubernetesActivities, WorkloadRecord } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { needsHuman } from './failures.ts';
import { ifThere, type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { poll } from './polling.ts';

type WorkloadKind = WorkloadRecord['kind'];

export interface Workload extends KubernetesObject {
  spec: {
    replicas?: number;
    suspend?: boolean;
    minReplicas?: number;
    scaleTargetRef?: { kind: string; name: string };
    template?: { spec: { nodeSelector?: Record<string, string> } };
  };
  status?: {
    observedGeneration?: number;
    replicas?: number;
    readyReplicas?: number;
    updatedReplicas?: number;
    desiredNumberScheduled?: number;
    currentNumberScheduled?: number;
    numberReady?: number;
  };
}
interface LiveWorkload {
  kind: WorkloadKind;
  object: Workload;
}

interface Job extends KubernetesObject {
  spec: { suspend?: boolean };
  status?: { active?: number; conditions?: { type: string; status: string }[] };
}

interface Pod extends KubernetesObject {
  spec: { nodeName?: string };
  status?: {
    phase?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    containerStatuses?: { name: string; state?: { waiting?: { reason?: string; message?: string } } }[];
  };
}

/** Kinds in the order in which they are stopped: what starts things first, so that nothing comes back behind us. */
const kinds: Record<WorkloadKind, { groupVersion: string; plural: string }> = {
  CronJob: { groupVersion: 'batch/v1', plural: 'cronjobs' },
  HorizontalPodAutoscaler: { groupVersion: 'autoscaling/v2', plural: 'horizontalpodautoscalers' },
  Deployment: { groupVersion: 'apps/v1', plural: 'deployments' },
  StatefulSet: { groupVersion: 'apps/v1', plural: 'statefulsets' },
  DaemonSet: { groupVersion: 'apps/v1', plural: 'daemonsets' },
};
const kindOrder = Object.keys(kinds) as WorkloadKind[];

/** Breadcrumbs: enough to put everything back by hand with nothing but kubectl. */
export const breadcrumbs = {
  migration: 'ferry.migration/id',
  replicas: 'ferry.migration/previous-replicas',
  ready: 'ferry.migration/previous-ready',
  suspend: 'ferry.migration/previous-suspend',
  nodeSelector: 'ferry.migration/previous-node-selector',
  minReplicas: 'ferry.migration/previous-min-replicas',
} as const;

/** A key no node carries: a DaemonSet that asks for it runs nowhere. */
export const parkedSelector = 'ferry.migration/parked';

const withoutBreadcrumbs = Object.fromEntries(Object.values(breadcrumbs).map((key) => [key, null]));

export interface ApplicationDeps {
  api: KubernetesApi;
  deadlines: Deadlines;
}

type ApplicationActivities = Pick<
  KubernetesActivities,
  'recordApplications' | 'stopApplications' | 'startApplications' | 'clearBreadcrumbs'
>;

/** Stopping and starting what runs in the application namespaces. */
export function createApplicationActivities({ api, deadlines }: ApplicationDeps): ApplicationActivities {
  async function recordApplications(input: { migration: string; namespaces: string[] }): Promise<ApplicationRecord> {
    const untouched = 'everything; workloads were only listed';
    const live = await onApi(api, 'Recording the applications', untouched, () => listWorkloads(api, input.namespaces));
    refuseForeign(live, input.migration, untouched);
    return {
      takenAt: new Date().toISOString(),
      workloads: live.map(({ kind, object }) => recordOf(kind, object)),
    };
  }

  async function stopApplications(input: {
    migration: string;
    namespaces: string[];
    record: ApplicationRecord;
  }): Promise<Evidence> {
    const doing = 'Stopping the applications';
    const live = await onApi(api, doing, 'everything; nothing was stopped yet', () =>
      listWorkloads(api, input.namespaces),
    );
    refuseForeign(live, input.migration, 'everything; nothing was stopped yet');
    refuseUnrecorded(live, input.record);

    const recorded = new Map(input.record.workloads.map((workload) => [keyOf(workload), workload]));
    let changed = 0;
    for (const workload of live) {
      const record = recorded.get(keyOfLive(workload));
      const patch = record && stopPatch(workload, record, input.migration);
      if (patch === undefined) continue;
      const isThere = await onApi(
        api,
        doing,
        'data and configuration; what was stopped already carries its breadcrumbs',
        () => patchIfThere(api, pathOf(workload), patch),
      );
      if (isThere) changed += 1;
    }
    const jobs = await awaitQuiet(api, input, deadlines);
    return {
      changed: changed + jobs > 0,
      proof: `the API answered with 0 pods Pending, Running or Unknown in ${input.namespaces.join(', ')}; ${changed} workloads stopped, ${jobs} running Jobs suspended`,
    };
  }

  async function startApplications(input: { migration: string; record: ApplicationRecord }): Promise<Evidence> {
    const doing = 'Starting the applications';
    const untouched = 'data; workloads not started yet keep their breadcrumbs';
    const namespaces = [...new Set(input.record.workloads.map(({ namespace }) => namespace))].sort();
    const live = await onApi(api, doing, untouched, () => listWorkloads(api, namespaces));
    refuseForeign(live, input.migration, untouched);
    const byKey = new Map(live.map((workload) => [keyOfLive(workload), workload]));
    const scaled = new Set(live.flatMap((workload) => scaleTarget(workload)));
    const missing = input.record.workloads.filter((record) => !byKey.has(keyOf(record))).map(keyOf);

    let changed = 0;
    async function restore(wanted: readonly WorkloadKind[]): Promise<void> {
      for (const record of input.record.workloads.filter(({ kind }) => wanted.includes(kind))) {
        const workload = byKey.get(keyOf(record));
        const patch = workload && startPatch(workload, record, scaled.has(keyOf(record)));
        if (workload === undefined || patch === undefined) continue;
        if (await onApi(api, doing, untouched, () => patchIfThere(api, pathOf(workload), patch))) changed += 1;
        else missing.push(keyOf(record));
      }
    }
    await restore(['Deployment', 'StatefulSet', 'DaemonSet']);
    const short = await awaitReady(api, input.record, namespaces, deadlines);
    // What starts things by itself comes last, when what it needs is there.
    await restore(['HorizontalPodAutoscaler', 'CronJob']);
    changed += await onApi(api, doing, untouched, () => resumeJobs(api, namespaces, input.migration));
    await onApi(api, doing, 'the applications: they run; only breadcrumbs are left', () =>
      dropBreadcrumbs(api, namespaces, input.migration),
    );
    return {
      changed: changed > 0,
      proof: [
        `${input.record.workloads.length - missing.length} workloads as recorded at ${input.record.takenAt}, ready by numbers and observedGeneration`,
        ...(short.length > 0 ? [`not ready before the migration either: ${short.join(', ')}`] : []),
        ...(missing.length > 0 ? [`deleted by somebody since: ${missing.join(', ')}`] : []),
      ].join('; '),
    };
  }

  async function clearBreadcrumbs(input: { migration: string; namespaces: string[] }): Promise<Evidence> {
    const untouched = 'the applications; only annotations are taken away';
    const live = await onApi(api, 'Clearing the breadcrumbs', untouched, () => listWorkloads(api, input.namespaces));
    const stopped = live.filter((workload) => isOurs(workload.object, input.migration) && isStopped(workload));
    if (stopped.length > 0) {
      throw needsHuman({
        what: 'The breadcrumbs cannot be taken away yet',
        cause: `still stopped by this migration: ${stopped.map(keyOfLive).join(', ')}`,
        untouched: 'all breadcrumbs: they say how these workloads ran before',
        next: 'start them, then: ferry resume',
      });
    }
    const count = await onApi(api, 'Clearing the breadcrumbs', untouched, () =>
      dropBreadcrumbs(api, input.namespaces, input.migration),
    );
    return {
      changed: count > 0,
      proof: `no object in ${input.namespaces.join(', ')} carries this migration's annotations`,
    };
  }

  return { recordApplications, stopApplications, startApplications, clearBreadcrumbs };
}

async function listWorkloads(api: KubernetesApi, namespaces: readonly string[]): Promise<LiveWorkload[]> {
  const found: LiveWorkload[] = [];
  for (const namespace of namespaces) {
    // An empty list of a namespace that does not exist would prove nothing.
    await api.request('GET', path('v1', undefined, 'namespaces', namespace));
    for (const kind of kindOrder) {
      const objects = await api.list<Workload>(path(kinds[kind].groupVersion, namespace, kinds[kind].plural));
      found.push(...objects.map((object) => ({ kind, object })));
    }
  }
  const rank = (workload: LiveWorkload): number => kindOrder.indexOf(workload.kind);
  return found.sort((a, b) => rank(a) - rank(b));
}

function keyOf(record: Pick<WorkloadRecord, 'kind' | 'namespace' | 'name'>): string {
  return `${record.kind} ${record.namespace}/${record.name}`;
}
function keyOfLive({ kind, object }: LiveWorkload): string {
  return keyOf({ kind, namespace: object.metadata.namespace ?? '', name: object.metadata.name });
}
function pathOf({ kind, object }: LiveWorkload): string {
  return path(kinds[kind].groupVersion, object.metadata.namespace, kinds[kind].plural, object.metadata.name);
}
function annotation(object: KubernetesObject, key: string): string | undefined {
  return object.metadata.annotations?.[key];
}
function isOurs(object: KubernetesObject, migration: string): boolean {
  return annotation(object, breadcrumbs.migration) === migration;
}

/**
 * How a workload runs, or ran before this migration stopped it: a breadcrumb outweighs the live value, so that a record
 * taken again after a partial stop never says 0.
 */
function recordOf(kind: WorkloadKind, object: Workload): WorkloadRecord {
  const base = { kind, namespace: object.metadata.namespace ?? '', name: object.metadata.name };
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet': {
      const previous = annotation(object, breadcrumbs.replicas);
      return previous === undefined
        ? { ...base, replicas: object.spec.replicas ?? 1, ready: readyOf(kind, object) }
        : { ...base, replicas: Number(previous), ready: readyBefore(object) ?? 'all' };
    }
    case 'HorizontalPodAutoscaler':
      return { ...base, replicas: Number(annotation(object, breadcrumbs.minReplicas) ?? object.spec.minReplicas ?? 0) };
    case 'CronJob': {
      const previous = annotation(object, breadcrumbs.suspend);
      return { ...base, suspended: previous === undefined ? (object.spec.suspend ?? false) : previous === 'true' };
    }
    case 'DaemonSet': {
      const previous = annotation(object, breadcrumbs.nodeSelector);
      return previous === undefined
        ? { ...base, nodeSelector: object.spec.template?.spec.nodeSelector ?? {}, ready: readyOf(kind, object) }
        : {
            ...base,
            nodeSelector: JSON.parse(previous) as Record<string, string>,
            ready: readyBefore(object) ?? 'all',
          };
    }
  }
}

/** How many pods are ready; a DaemonSet that comes to other nodes has another number of them, so all of them are no number. */
function readyOf(kind: 'Deployment' | 'StatefulSet' | 'DaemonSet', { spec, status = {} }: Workload): number | 'all' {
  const [ready = 0, wanted = 0] =
    kind === 'DaemonSet'
      ? [status.numberReady, status.desiredNumberScheduled]
      : [status.readyReplicas, spec.replicas ?? 1];
  return ready < wanted ? ready : 'all';
}

/** The same by the breadcrumb, which only those carry that were not wholly ready. */
function readyBefore(object: Workload): number | undefined {
  const before = annotation(object, breadcrumbs.ready);
  return before === undefined ? undefined : Number(before);
}

function isStopped({ kind, object }: LiveWorkload): boolean {
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet':
      return (object.spec.replicas ?? 1) === 0 && annotation(object, breadcrumbs.replicas) !== '0';
    case 'CronJob':
      return object.spec.suspend === true && annotation(object, breadcrumbs.suspend) !== 'true';
    case 'DaemonSet':
      return object.spec.template?.spec.nodeSelector?.[parkedSelector] !== undefined;
    case 'HorizontalPodAutoscaler':
      return annotation(object, breadcrumbs.minReplicas) !== undefined && object.spec.minReplicas !== 0;
  }
}

function refuseForeign(live: readonly LiveWorkload[], migration: string, untouched: string): void {
  const foreign = live.filter(({ object }) => {
    const owner = annotation(object, breadcrumbs.migration);
    return owner !== undefined && owner !== migration;
  });
  if (foreign.length === 0) return;
  const owners = [...new Set(foreign.map(({ object }) => annotation(object, breadcrumbs.migration)))].join(', ');
  throw needsHuman({
    what: 'Another migration has stopped some of these applications',
    cause: `${foreign.map(keyOfLive).join(', ')} carry breadcrumbs of ${owners}`,
    untouched,
    next: `finish or roll back ${owners}, then: ferry resume`,
  });
}

function refuseUnrecorded(live: readonly LiveWorkload[], record: ApplicationRecord): void {
  const known = new Set(record.workloads.map(keyOf));
  const unknown = live.filter((workload) => !known.has(keyOfLive(workload)) && isActive(workload));
  if (unknown.length === 0) return;
  throw needsHuman({
    what: 'The applications changed after they were recorded',
    cause: `not in the record of ${record.takenAt}: ${unknown.map(keyOfLive).join(', ')}; nobody could start them again afterwards`,
    untouched: 'everything; nothing was stopped yet',
    next: 'scale them to 0 or suspend them by hand, then: ferry resume',
  });
}

/** Whether a workload runs, or starts something by itself. */
export function isActive({ kind, object }: { kind: WorkloadKind | 'Job'; object: Workload }): boolean {
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet':
      return (object.spec.replicas ?? 1) > 0;
    case 'CronJob':
    case 'Job':
      return object.spec.suspend !== true;
    case 'DaemonSet':
      return object.spec.template?.spec.nodeSelector?.[parkedSelector] === undefined;
    case 'HorizontalPodAutoscaler':
      return false;
  }
}

/** Breadcrumb and act in one write: there is no moment in which one exists without the other. */
function stopPatch({ kind, object }: LiveWorkload, record: WorkloadRecord, migration: string): object | undefined {
  const mark = (key: string, value: string, more: object = {}): object => ({
    annotations: { [breadcrumbs.migration]: migration, [key]: value, ...more },
  });
  const notReady = (of: 'Deployment' | 'StatefulSet' | 'DaemonSet'): object => {
    const ready = record.ready ?? readyOf(of, object);
    return ready === 'all' ? {} : { [breadcrumbs.ready]: String(ready) };
  };
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet': {
      if ((object.spec.replicas ?? 1) === 0) return undefined;
      return {
        metadata: mark(breadcrumbs.replicas, String(record.replicas), notReady(kind)),
        spec: { replicas: 0 },
      };
    }
    case 'CronJob':
      if (object.spec.suspend === true) return undefined;
      return { metadata: mark(breadcrumbs.suspend, String(record.suspended ?? false)), spec: { suspend: true } };
    case 'DaemonSet':
      if (object.spec.template?.spec.nodeSelector?.[parkedSelector] !== undefined) return undefined;
      return {
        metadata: mark(breadcrumbs.nodeSelector, JSON.stringify(record.nodeSelector ?? {}), notReady(kind)),
        // A merge patch: their keys stay.
        spec: { template: { spec: { nodeSelector: { [parkedSelector]: 'true' } } } },
      };
    case 'HorizontalPodAutoscaler':
      // At 0 replicas an autoscaler does nothing until somebody scales up, so it may stay as it is. Only one that may itself
      // go down to 0 stays awake there; with minReplicas 1 it sleeps as well.
      if (object.spec.minReplicas !== 0) return undefined;
      return { metadata: mark(breadcrumbs.minReplicas, '0'), spec: { minReplicas: 1 } };
  }
}

/** `scaled`: an autoscaler owns the number once there is one; then any number above 0 is right. */
function startPatch({ kind, object }: LiveWorkload, record: WorkloadRecord, scaled: boolean): object | undefined {
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet': {
      const wanted = record.replicas ?? 0;
      const now = object.spec.replicas ?? 1;
      return now === wanted || (scaled && now > 0 && wanted > 0) ? undefined : { spec: { replicas: wanted } };
    }
    case 'CronJob':
      return (object.spec.suspend ?? false) === (record.suspended ?? false)
        ? undefined
        : { spec: { suspend: record.suspended ?? false } };
    case 'DaemonSet':
      return object.spec.template?.spec.nodeSelector?.[parkedSelector] === undefined
        ? undefined
        : { spec: { template: { spec: { nodeSelector: { [parkedSelector]: null } } } } };
    case 'HorizontalPodAutoscaler': {
      const previous = annotation(object, breadcrumbs.minReplicas);
      return previous === undefined ? undefined : { spec: { minReplicas: Number(previous) } };
    }
  }
}

function scaleTarget({ kind, object }: LiveWorkload): string[] {
  const target = object.spec.scaleTargetRef;
  if (kind !== 'HorizontalPodAutoscaler' || target === undefined) return [];
  return [`${target.kind} ${object.metadata.namespace ?? ''}/${target.name}`];
}

function isRunning(pod: Pod): boolean {
  // Failed, Evicted and Succeeded pods are leftovers that hold nothing.
  return ['Pending', 'Running', 'Unknown'].includes(pod.status?.phase ?? 'Unknown');
}
function isJobActive(job: Job): boolean {
  const finished = job.status?.conditions?.some(
    ({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True',
  );
  return finished !== true && job.spec.suspend !== true;
}
function controllerOf(object: KubernetesObject): { kind: string; name: string } | undefined {
  return object.metadata.ownerReferences?.find(({ controller }) => controller === true);
}
function nameOf(object: KubernetesObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}
function describePod(pod: Pod): string {
  const owner = controllerOf(pod);
  const facts = [
    pod.status?.phase ?? 'Unknown',
    owner === undefined ? 'bare: no controller owns it' : `of ${owner.kind} ${owner.name}`,
    ...(pod.spec.nodeName === undefined ? [] : [`on ${pod.spec.nodeName}`]),
    ...(pod.metadata.deletionTimestamp === undefined ? [] : [`terminating since ${pod.metadata.deletionTimestamp}`]),
  ];
  return `pod ${nameOf(pod)} (${facts.join(', ')})`;
}

/** Waits until a successful answer shows nothing running; answers how many Jobs of CronJobs had to be suspended. */
async function awaitQuiet(
  api: KubernetesApi,
  input: { migration: string; namespaces: string[]; record: ApplicationRecord },
  deadlines: Deadlines,
): Promise<number> {
  const startedAt = Date.now();
  const suspended = new Set<string>();
  let quietLooks = 0;
  let straysSince: number | undefined;
  const kept = 'data and configuration; the stopped workloads carry their breadcrumbs';

  await poll(
    () =>
      onApi(api, 'Waiting for the applications to stop', kept, async () => {
        const pods: Pod[] = [];
        const jobs: Job[] = [];
        for (const namespace of input.namespaces) {
          pods.push(...(await api.list<Pod>(path('v1', namespace, 'pods'))).filter(isRunning));
          jobs.push(...(await api.list<Job>(path('batch/v1', namespace, 'jobs'))).filter(isJobActive));
        }
        const unsettled = (await listWorkloads(api, input.namespaces)).filter((workload) => !isSettled(workload));

        const scheduled = jobs.filter((job) => controllerOf(job)?.kind === 'CronJob');
        if (Date.now() - startedAt >= deadlines.cronJobsFinish) {
          for (const job of scheduled) {
            if (await suspendJob(api, job, input.migration)) suspended.add(nameOf(job));
          }
        }

        if (pods.length + jobs.length + unsettled.length === 0) {
          // A controller with an old cache may create one more pod right after the write; a second look proves it did not.
          quietLooks += 1;
          return quietLooks >= 2 ? { done: true, value: undefined } : { done: false, waiting: 'a second look' };
        }
        quietLooks = 0;
        const strayJobs = jobs.filter((job) => !scheduled.includes(job));
        const strays = pods.filter((pod) => isStray(pod, strayJobs));
        const onlyStrays = strays.length + strayJobs.length > 0 && strays.length === pods.length;
        straysSince = onlyStrays ? (straysSince ?? Date.now()) : undefined;
        const waiting = [
          ...pods.map(describePod),
          ...strayJobs.map((job) => `Job ${nameOf(job)}`),
          ...unsettled.map((workload) => `${keyOfLive(workload)} not settled yet`),
        ];
        if (straysSince !== undefined && Date.now() - straysSince >= deadlines.strays) {
          throw stillRunning(waiting, 'nothing this migration stopped owns them, so nothing would bring them back');
        }
        return { done: false, waiting: summary(waiting) };
      }),
    { deadline: deadlines.podsGone },
    (waiting) => stillRunning([waiting], `they did not end within ${deadlines.podsGone / 1000} s`),
  );
  return suspended.size;
}

function isStray(pod: Pod, strayJobs: readonly Job[]): boolean {
  if (pod.metadata.deletionTimestamp !== undefined) return false;
  const owner = controllerOf(pod);
  if (owner === undefined) return true;
  return (
    owner.kind === 'Job' &&
    strayJobs.some((job) => job.metadata.name === owner.name && job.metadata.namespace === pod.metadata.namespace)
  );
}

function stillRunning(what: readonly string[], why: string): Error {
  return needsHuman({
    what: 'Applications still run',
    cause: `${summary(what)}; ${why}`,
    untouched: 'data and configuration; everything that was stopped carries its breadcrumbs',
    next: 'end them by hand (kubectl delete pod, kubectl delete job), then: ferry resume',
  });
}

/** The first ten and how many more. */
function summary(lines: readonly string[]): string {
  return lines.length <= 10 ? lines.join('; ') : `${lines.slice(0, 10).join('; ')}; and ${lines.length - 10} more`;
}

/** Its controller has seen the number 0 and counts no pod any more. */
function isSettled({ kind, object }: LiveWorkload): boolean {
  const seen = (object.status?.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet':
      return (object.spec.replicas ?? 1) > 0 || (seen && (object.status?.replicas ?? 0) === 0);
    case 'DaemonSet':
      return seen && (object.status?.currentNumberScheduled ?? 0) === 0;
    case 'CronJob':
    case 'HorizontalPodAutoscaler':
      return true;
  }
}

/** False when the object was deleted after it was listed, as Jobs that end are: then there is nothing left to be changed. */
function patchIfThere(api: KubernetesApi, resource: string, patch: object): Promise<boolean> {
  return ifThere(() => api.request('PATCH', resource, { body: patch }));
}

async function suspendJob(api: KubernetesApi, job: Job, migration: string): Promise<boolean> {
  return patchIfThere(api, path('batch/v1', job.metadata.namespace, 'jobs', job.metadata.name), {
    metadata: { annotations: { [breadcrumbs.migration]: migration, [breadcrumbs.suspend]: 'false' } },
    spec: { suspend: true },
  });
}

async function resumeJobs(api: KubernetesApi, namespaces: readonly string[], migration: string): Promise<number> {
  let count = 0;
  for (const namespace of namespaces) {
    for (const job of await api.list<Job>(path('batch/v1', namespace, 'jobs'))) {
      if (!isOurs(job, migration) || job.spec.suspend !== true) continue;
      const resumed = await patchIfThere(api, path('batch/v1', namespace, 'jobs', job.metadata.name), {
        metadata: { annotations: withoutBreadcrumbs },
        spec: { suspend: false },
      });
      if (resumed) count += 1;
    }
  }
  return count;
}

async function dropBreadcrumbs(api: KubernetesApi, namespaces: readonly string[], migration: string): Promise<number> {
  const marked = (await listWorkloads(api, namespaces)).filter(({ object }) => isOurs(object, migration));
  let count = 0;
  for (const workload of marked) {
    if (await patchIfThere(api, pathOf(workload), { metadata: { annotations: withoutBreadcrumbs } })) count += 1;
  }
  return count;
}

/** Waits until every recorded workload is as ready as it was; answers those that were not ready before either. */
async function awaitReady(
  api: KubernetesApi,
  record: ApplicationRecord,
  namespaces: readonly string[],
  deadlines: Deadlines,
): Promise<string[]> {
  const recorded = new Map(record.workloads.map((workload) => [keyOf(workload), workload]));
  return poll(
    () =>
      onApi(api, 'Waiting for the applications', 'data; the workloads are scaled as recorded', async () => {
        const short: string[] = [];
        const missing: string[] = [];
        for (const workload of await listWorkloads(api, namespaces)) {
          const wanted = recorded.get(keyOfLive(workload));
          if (wanted === undefined) continue;
          const { ready, short: isShort, text } = readiness(workload, wanted);
          if (!ready) missing.push(`${keyOfLive(workload)} ${text}`);
          else if (isShort) short.push(`${keyOfLive(workload)} ${text}`);
        }
        if (missing.length === 0) return { done: true, value: short };
        const reasons = await podReasons(api, namespaces);
        return { done: false, waiting: summary([...missing, ...reasons]) };
      }),
    { deadline: deadlines.ready },
    (waiting) =>
      needsHuman({
        what: 'Applications do not become ready',
        cause: `after ${deadlines.ready / 1000} s: ${waiting}`,
        untouched: 'data; all workloads are scaled as recorded',
        next: 'look at these pods (kubectl describe pod, kubectl logs), repair, then: ferry resume',
      }),
  );
}

function readiness(
  { kind, object }: LiveWorkload,
  record: WorkloadRecord,
): { ready: boolean; short: boolean; text: string } {
  const status = object.status ?? {};
  // A DaemonSet's numbers are those of the time before, 0 of 0, until its controller has seen the change.
  const seen = (status.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
  const compare = (now = 0, wanted = 0): { ready: boolean; short: boolean; text: string } => {
    // A workload that was broken before need not be healed by the move. Its breadcrumb is gone when a start is tried again.
    const before = record.ready ?? readyBefore(object) ?? 'all';
    const expected = before === 'all' ? wanted : Math.min(wanted, before);
    return { ready: seen && now >= expected, short: now < wanted, text: `${now} of ${wanted} ready` };
  };
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet':
      return compare(status.readyReplicas, record.replicas);
    case 'DaemonSet':
      return compare(status.numberReady, status.desiredNumberScheduled);
    case 'CronJob':
    case 'HorizontalPodAutoscaler':
      return { ready: true, short: false, text: '' };
  }
}

/** Why pods are not there yet, in the words of scheduler and kubelet. */
async function podReasons(api: KubernetesApi, namespaces: readonly string[]): Promise<string[]> {
  const reasons: string[] = [];
  for (const namespace of namespaces) {
    for (const pod of await api.list<Pod>(path('v1', namespace, 'pods'))) {
      const waiting = pod.status?.containerStatuses?.find(({ state }) => state?.waiting?.reason !== undefined);
      const unschedulable = pod.status?.conditions?.find(
        ({ type, status }) => type === 'PodScheduled' && status === 'False',
      );
      const reason = waiting?.state?.waiting?.reason ?? unschedulable?.message;
      if (isRunning(pod) && reason !== undefined) reasons.push(`pod ${nameOf(pod)}: ${reason}`);
    }
  }
  return reasons;
}
