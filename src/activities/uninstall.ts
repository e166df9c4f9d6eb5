import type { HostAddress, Hosts } from '../hosts/contract.ts';
import { type ComponentRow, type CustomResourceWorkload, componentTable } from '../plan/components.ts';
import type { Host, PlannedComponent } from '../plan/plan.ts';
import type { Evidence, KubernetesActivities, VolumeRecord } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { needsHuman, onHost } from './failures.ts';
import { findHelm, localRunner } from './helm.ts';
import { ifThere, type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { poll } from './polling.ts';

interface PersistentVolume extends KubernetesObject {
  spec: { persistentVolumeReclaimPolicy?: string; claimRef?: { namespace?: string; name?: string } };
  status?: { phase?: string };
}
interface Claim extends KubernetesObject {
  spec: { volumeName?: string };
}
interface Pod extends KubernetesObject {
  spec: {
    nodeName?: string;
    volumes?: { persistentVolumeClaim?: { claimName: string }; hostPath?: { path: string } }[];
  };
  status?: { phase?: string };
}
interface Deployment extends KubernetesObject {
  spec: { replicas?: number };
  status?: { availableReplicas?: number };
}

export interface UninstallDeps {
  api: KubernetesApi;
  hosts: Hosts;
  deadlines: Deadlines;
}

export interface UninstallInput {
  migration: string;
  component: PlannedComponent;
  volumes: VolumeRecord;
  /** Where helm runs; absent: on the worker, with the worker's kubeconfig. */
  control?: Host;
}

/** One time limit for all steps of an uninstall together. */
interface Countdown {
  /** Milliseconds left, at least one look's worth. */
  left(): number;
  /** The whole of it, for messages. */
  seconds: number;
}
function countdown(milliseconds: number): Countdown {
  const end = Date.now() + milliseconds;
  return { left: () => Math.max(end - Date.now(), 0), seconds: milliseconds / 1000 };
}

const dataStays = 'the data directories: nothing below them is touched; all PVs are of policy Retain';

/** Taking a component out of the cluster without touching its data. */
export function createUninstallActivities({ api, hosts, deadlines }: UninstallDeps): {
  recordVolumes: KubernetesActivities['recordVolumes'];
  uninstallComponent(input: UninstallInput): Promise<Evidence>;
} {
  async function recordVolumes(input: { components: PlannedComponent[] }): Promise<VolumeRecord[]> {
    return onApi(api, 'Recording the volumes', 'everything; volumes were only listed', async () => {
      const records: VolumeRecord[] = [];
      for (const component of input.components) {
        const record = await recordOf(api, component);
        await refuseUnsafeVolumes(api, record, 'everything; volumes were only listed');
        records.push(record);
      }
      return records;
    });
  }

  async function uninstallComponent(input: UninstallInput): Promise<Evidence> {
    const { component, volumes } = input;
    const row = componentTable[component.kind];
    const doing = `Uninstalling ${component.kind}`;
    await onApi(api, doing, 'everything; nothing was deleted yet', () =>
      refuseUnsafeVolumes(api, volumes, 'everything; nothing was deleted yet'),
    );
    const deadline = countdown(deadlines.gone);
    let changed = false;
    if (row.workload.type === 'helm') {
      changed = await uninstallRelease(hosts, input.control, component.namespace, row.workload.release);
    } else {
      changed = await deleteCustomResource(api, component.namespace, row.workload, deadline);
    }
    changed = (await deleteStatefulSets(api, component, volumes, deadline)) || changed;
    await awaitNoPods(api, component, volumes, deadline);
    changed = (await deleteClaims(api, volumes, deadline)) || changed;
    changed = (await deleteVolumes(api, volumes, deadline)) || changed;
    return {
      changed,
      proof: `NotFound, asked by name: ${describeWorkload(row)}, ${volumes.statefulSets.length} StatefulSets, their pods, ${volumes.claims.length} PVCs, ${volumes.persistentVolumes.length} PVs`,
    };
  }

  return { recordVolumes, uninstallComponent };
}

function describeWorkload(row: ComponentRow): string {
  return row.workload.type === 'helm'
    ? `release ${row.workload.release}`
    : `${row.workload.plural}.${row.workload.group} ${row.workload.name}`;
}

async function recordOf(api: KubernetesApi, component: PlannedComponent): Promise<VolumeRecord> {
  const { namespace, kind } = component;
  const runTime = componentTable[kind].runTime;
  const claims = new Set(component.replicas.map(({ pvc }) => pvc));
  const persistentVolumes = new Set(component.replicas.map(({ pv }) => pv));
  const statefulSets = new Set(component.statefulSets);
  if (runTime !== undefined) {
    for (const claim of await api.list<Claim>(path('v1', namespace, 'persistentvolumeclaims'))) {
      if (runTime.claim.test(claim.metadata.name)) claims.add(claim.metadata.name);
    }
    for (const set of await api.list<KubernetesObject>(path('apps/v1', namespace, 'statefulsets'))) {
      if (runTime.statefulSet.test(set.metadata.name)) statefulSets.add(set.metadata.name);
    }
  }
  for (const volume of await api.list<PersistentVolume>(path('v1', undefined, 'persistentvolumes'))) {
    const { claimRef } = volume.spec;
    if (claimRef?.namespace === namespace && claims.has(claimRef.name ?? '')) {
      persistentVolumes.add(volume.metadata.name);
    }
  }
  return {
    component: kind,
    namespace,
    persistentVolumes: [...persistentVolumes].sort(),
    claims: [...claims].sort(),
    statefulSets: [...statefulSets].sort(),
  };
}

/** Deleting is by these names only, and only where it cannot cost data: Retain, and bound to a claim of the same record. */
async function refuseUnsafeVolumes(api: KubernetesApi, record: VolumeRecord, untouched: string): Promise<void> {
  for (const name of record.persistentVolumes) {
    const volume = await api.find<PersistentVolume>(path('v1', undefined, 'persistentvolumes', name));
    if (volume === undefined) continue;
    const policy = volume.spec.persistentVolumeReclaimPolicy ?? 'unset';
    if (policy !== 'Retain') {
      throw needsHuman({
        what: `PV ${name} of ${record.component} must not be deleted`,
        cause: `its reclaim policy is ${policy}: deleting it could delete data`,
        untouched,
        next: `kubectl patch pv ${name} -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}', then: ferry resume`,
      });
    }
    const { claimRef } = volume.spec;
    if (claimRef?.name === undefined) continue;
    if (claimRef.namespace === record.namespace && record.claims.includes(claimRef.name)) continue;
    throw needsHuman({
      what: `PV ${name} does not belong to ${record.component} alone`,
      cause: `it is bound to ${claimRef.namespace ?? '?'}/${claimRef.name}, which is none of the component's claims`,
      untouched,
      next: 'find out who uses it (kubectl describe pv), make a new plan, or free the volume, then: ferry resume',
    });
  }
}

async function uninstallRelease(
  hosts: Hosts,
  control: HostAddress | undefined,
  namespace: string,
  release: string,
): Promise<boolean> {
  const where = control?.name ?? 'the worker';
  return onHost(where, dataStays, async () => {
    const helm = await findHelm(control === undefined ? localRunner : await hosts.connect(control), where);
    if (!(await helm.exists(namespace, release))) return false;
    await helm.uninstall(namespace, release);
    if (await helm.exists(namespace, release)) {
      throw needsHuman({
        what: `The Helm release ${namespace}/${release} is still listed`,
        cause: 'helm uninstall reported success',
        untouched: dataStays,
        next: `helm3 -n ${namespace} status ${release} on ${where}, then: ferry resume`,
      });
    }
    return true;
  });
}

async function deleteCustomResource(
  api: KubernetesApi,
  namespace: string,
  workload: CustomResourceWorkload,
  deadline: Countdown,
): Promise<boolean> {
  const doing = `Deleting ${workload.plural}.${workload.group} ${workload.name}`;
  const resource = path(`${workload.group}/${workload.version}`, namespace, workload.plural, workload.name);
  const live = await onApi(api, doing, dataStays, () => api.find<KubernetesObject>(resource));
  if (live === undefined) return false;

  // Its finalizers are the operator's work: with the operator down the deletion would hang for ever.
  const held = (live.metadata.finalizers ?? []).length > 0;
  if (held && live.metadata.deletionTimestamp === undefined) {
    const available = await onApi(api, doing, dataStays, () => operatorReplicas(api, workload));
    if (available === 0) {
      throw needsHuman({
        what: `${workload.kind} ${workload.name} cannot be deleted now`,
        cause: `its finalizers (${finalizers(live)}) are handled by Deployment ${operatorName(workload)}, which has no available replica`,
        untouched: 'everything of this component; nothing was deleted yet',
        next: `kubectl -n ${workload.operator.namespace} rollout status deployment ${workload.operator.deployment}, then: ferry resume`,
      });
    }
  }
  await onApi(api, doing, dataStays, () => deleteObject(api, resource));
  await poll(
    () =>
      onApi(api, doing, dataStays, async () => {
        const now = await api.find<KubernetesObject>(resource);
        if (now === undefined) return { done: true, value: undefined };
        const available = await operatorReplicas(api, workload);
        return {
          done: false,
          waiting: `${workload.kind} ${namespace}/${workload.name}: finalizer ${finalizers(now)}; its operator ${operatorName(workload)} has ${available} available replicas`,
        };
      }),
    { deadline: deadline.left() },
    (waiting) => blocked(`${workload.kind} ${workload.name} does not go away`, waiting, deadline),
  );
  return true;
}

async function operatorReplicas(api: KubernetesApi, { operator }: CustomResourceWorkload): Promise<number> {
  const found = await api.find<Deployment>(path('apps/v1', operator.namespace, 'deployments', operator.deployment));
  return found?.status?.availableReplicas ?? 0;
}
function operatorName({ operator }: CustomResourceWorkload): string {
  return `${operator.namespace}/${operator.deployment}`;
}
function finalizers(object: KubernetesObject): string {
  return (object.metadata.finalizers ?? []).join(', ') || 'none';
}

function blocked(what: string, waiting: string, deadline: Countdown): Error {
  return needsHuman({
    what,
    cause: `after ${deadline.seconds} s: ${waiting}`,
    untouched: dataStays,
    next: 'see to it that whoever owns the finalizer does its work (never take a finalizer off by hand before the pods are gone), then: ferry resume',
  });
}

/** Background propagation, as kubectl does; does not wait. An object that is gone is no error. */
async function deleteObject(api: KubernetesApi, resource: string): Promise<void> {
  await ifThere(() =>
    api.request('DELETE', resource, {
      body: { apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy: 'Background' },
    }),
  );
}

async function deleteStatefulSets(
  api: KubernetesApi,
  component: PlannedComponent,
  volumes: VolumeRecord,
  deadline: Countdown,
): Promise<boolean> {
  const names = [...new Set([...component.statefulSets, ...volumes.statefulSets])];
  const resources = names.map((name) => ({
    label: `StatefulSet ${component.namespace}/${name}`,
    resource: path('apps/v1', component.namespace, 'statefulsets', name),
  }));
  return deleteAll(api, `Deleting StatefulSets of ${component.kind}`, resources, deadline, () => Promise.resolve(''));
}

async function awaitNoPods(
  api: KubernetesApi,
  component: PlannedComponent,
  volumes: VolumeRecord,
  deadline: Countdown,
): Promise<void> {
  const doing = `Waiting for the pods of ${component.kind}`;
  await poll(
    () =>
      onApi(api, doing, dataStays, async () => {
        const pods = (await api.list<Pod>(path('v1', undefined, 'pods'))).filter((pod) =>
          usesData(pod, component, volumes),
        );
        for (const pod of pods) await dropFinished(api, pod);
        if (pods.length === 0) return { done: true, value: undefined };
        return { done: false, waiting: pods.map(describePod).join('; ') };
      }),
    { deadline: deadline.left() },
    (waiting) =>
      needsHuman({
        what: `Pods of ${component.kind} still run`,
        cause: `after ${deadline.seconds} s: ${waiting}`,
        untouched: `${dataStays}; PVCs and PVs of the component`,
        next: 'end them by hand (on a machine that is off: kubectl delete pod --force), then: ferry resume',
      }),
  );
}

/** A pod of the component: of its StatefulSets, or anything else that has one of its claims or its directory mounted. */
function usesData(pod: Pod, component: PlannedComponent, volumes: VolumeRecord): boolean {
  const ours = pod.metadata.namespace === component.namespace;
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (ours && owner?.kind === 'StatefulSet' && volumes.statefulSets.includes(owner.name)) return true;
  return (pod.spec.volumes ?? []).some(({ persistentVolumeClaim: claim, hostPath }) => {
    if (ours && claim !== undefined && volumes.claims.includes(claim.claimName)) return true;
    if (hostPath === undefined || isFinished(pod)) return false;
    return [component.dataPath, component.newDataPath].some(
      (directory) => hostPath.path === directory || hostPath.path.startsWith(`${directory}/`),
    );
  });
}

function isFinished(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** A finished pod (of a log rotation, say) writes nothing, but keeps its claim from going away. */
async function dropFinished(api: KubernetesApi, pod: Pod): Promise<void> {
  if (!isFinished(pod) || pod.metadata.deletionTimestamp !== undefined) return;
  await deleteObject(api, path('v1', pod.metadata.namespace, 'pods', pod.metadata.name));
}

function describePod(pod: Pod): string {
  const facts = [
    pod.status?.phase ?? 'Unknown',
    ...(pod.spec.nodeName === undefined ? [] : [`on ${pod.spec.nodeName}`]),
    ...(pod.metadata.deletionTimestamp === undefined ? [] : [`terminating since ${pod.metadata.deletionTimestamp}`]),
  ];
  return `pod ${pod.metadata.namespace ?? ''}/${pod.metadata.name} (${facts.join(', ')})`;
}

async function deleteClaims(api: KubernetesApi, volumes: VolumeRecord, deadline: Countdown): Promise<boolean> {
  const resources = volumes.claims.map((name) => ({
    label: `PVC ${volumes.namespace}/${name}`,
    resource: path('v1', volumes.namespace, 'persistentvolumeclaims', name),
  }));
  return deleteAll(api, `Deleting PVCs of ${volumes.component}`, resources, deadline, async () => {
    const pods = await api.list<Pod>(path('v1', volumes.namespace, 'pods'));
    const users = pods.filter((pod) =>
      (pod.spec.volumes ?? []).some(({ persistentVolumeClaim: claim }) =>
        volumes.claims.includes(claim?.claimName ?? ''),
      ),
    );
    return users.length === 0 ? '' : `mounted by ${users.map(describePod).join('; ')}`;
  });
}

async function deleteVolumes(api: KubernetesApi, volumes: VolumeRecord, deadline: Countdown): Promise<boolean> {
  const resources = volumes.persistentVolumes.map((name) => ({
    label: `PV ${name}`,
    resource: path('v1', undefined, 'persistentvolumes', name),
  }));
  return deleteAll(api, `Deleting PVs of ${volumes.component}`, resources, deadline, () => Promise.resolve(''));
}

/** False for a volume whose policy would delete what lies on it. */
function keepsData(live: KubernetesObject): boolean {
  if (live.kind !== 'PersistentVolume') return true;
  return (live as PersistentVolume).spec.persistentVolumeReclaimPolicy === 'Retain';
}

/** How often an object that comes back is deleted again: a controller on its way out may write once more, one that stays will not give up. */
const deletionsAgain = 5;

/**
 * Deletes what is there of the named objects, without waiting in between, then polls until the API says NotFound for each. One that comes
 * back without an owner is deleted again, a volume only if that keeps its data.
 */
async function deleteAll(
  api: KubernetesApi,
  doing: string,
  resources: readonly { label: string; resource: string }[],
  deadline: Countdown,
  holders: () => Promise<string>,
): Promise<boolean> {
  let changed = false;
  await onApi(api, doing, dataStays, async () => {
    for (const { resource } of resources) {
      const live = await api.find<KubernetesObject>(resource);
      if (live === undefined) continue;
      changed = true;
      if (live.metadata.deletionTimestamp === undefined) await deleteObject(api, resource);
    }
  });
  const again = new Map<string, number>();
  await poll(
    () =>
      onApi(api, doing, dataStays, async () => {
        const left: string[] = [];
        for (const { label, resource } of resources) {
          const live = await api.find<KubernetesObject>(resource);
          if (live === undefined) continue;
          const owner = live.metadata.ownerReferences?.find(({ controller }) => controller === true);
          const isBack = live.metadata.deletionTimestamp === undefined;
          const times = again.get(resource) ?? 0;
          if (isBack && owner === undefined && times < deletionsAgain && keepsData(live)) {
            again.set(resource, times + 1);
            await deleteObject(api, resource);
            left.push(`${label} (there again, deleted again)`);
            continue;
          }
          const state = isBack
            ? `there again${owner === undefined ? '' : `, made by ${owner.kind} ${owner.name}`}`
            : `finalizer ${finalizers(live)}`;
          left.push(`${label} (${state})`);
        }
        if (left.length === 0) return { done: true, value: undefined };
        const held = await holders();
        return { done: false, waiting: [...left, ...(held === '' ? [] : [held])].join('; ') };
      }),
    { deadline: deadline.left() },
    (waiting) => blocked(`${doing} does not come to an end`, waiting, deadline),
  );
  return changed;
}
