import { Context } from '@temporalio/activity';
import { WorkflowNotFoundError } from '@temporalio/client';
import type { Holder, LeaseActivities } from './contract.ts';
import { needsHuman, transient } from './failures.ts';
import { ApiError, type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';

/*
 * One migration of a cluster at a time. The lock is an object of the cluster itself: two workers that know nothing of each other, of two
 * Temporal servers or of two plans with different names, still move the same machines.
 */

const group = 'coordination.k8s.io/v1';
export const leaseName = 'ferry-migration';
const chainKey = 'ferry.migration/first-run';
const namespaceKey = 'ferry.migration/temporal-namespace';

export interface Lease extends KubernetesObject {
  spec?: { holderIdentity?: string; acquireTime?: string };
}

/** What became of a migration that holds a cluster. */
type Fate = 'at-work' | 'ended' | 'unknown';

type FateOf = (holder: Holder, asker: Holder) => Promise<Fate>;

interface LeaseDeps {
  api: KubernetesApi;
  /** What became of one holder, asked by another; default: asks the worker's own Temporal server. */
  fateOf?: FateOf;
}

export function createLeaseActivities({ api, fateOf = askTemporal }: LeaseDeps): LeaseActivities {
  return {
    holdCluster: (input) => onApi(api, 'Taking hold of the cluster', untouched, () => hold(api, fateOf, input)),
    letClusterGo: (input) => onApi(api, 'Letting the cluster go', untouched, () => letGo(api, input)),
  };
}

const untouched = 'everything: this step only marks who works on the cluster';

export function findLease(api: KubernetesApi, configNamespace: string): Promise<Lease | undefined> {
  return api.find<Lease>(path(group, configNamespace, 'leases', leaseName));
}

/** Who a lease says holds the cluster. */
export function holderOf({ metadata, spec }: Lease): Holder {
  return {
    workflowId: spec?.holderIdentity ?? '',
    namespace: metadata.annotations?.[namespaceKey] ?? '',
    firstRunId: metadata.annotations?.[chainKey] ?? '',
  };
}

type HoldInput = Parameters<LeaseActivities['holdCluster']>[0];

async function hold(
  api: KubernetesApi,
  fateOf: FateOf,
  { configNamespace, holder }: HoldInput,
): ReturnType<LeaseActivities['holdCluster']> {
  const found = await findLease(api, configNamespace);
  const proof = `Lease ${configNamespace}/${leaseName} names ${holder.workflowId}`;
  if (found === undefined) {
    await guarded(() =>
      api.request('POST', path(group, configNamespace, 'leases'), { body: leaseOf(configNamespace, holder) }),
    );
    return { changed: true, proof };
  }
  const before = holderOf(found);
  if (before.firstRunId === holder.firstRunId) return { changed: false, proof };
  const fate = await fateOf(before, holder);
  if (fate !== 'ended') throw refusal(configNamespace, before, found.spec?.acquireTime, fate);
  const { resourceVersion } = found.metadata;
  const lease = leaseOf(configNamespace, holder);
  await guarded(() =>
    api.request('PUT', path(group, configNamespace, 'leases', leaseName), {
      body: { ...lease, metadata: { ...lease.metadata, resourceVersion } },
    }),
  );
  return { changed: true, proof: `${proof}; ${before.workflowId}, which it named before, has ended` };
}

function leaseOf(namespace: string, holder: Holder): Lease {
  return {
    apiVersion: group,
    kind: 'Lease',
    metadata: {
      name: leaseName,
      namespace,
      annotations: { [namespaceKey]: holder.namespace, [chainKey]: holder.firstRunId },
    },
    spec: { holderIdentity: holder.workflowId, acquireTime: new Date().toISOString().replace('Z', '000Z') },
  };
}

/** Somebody was faster: the next try sees who. */
async function guarded(write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 409) throw error;
    throw transient(
      {
        what: 'Another migration took hold of the cluster at the same moment',
        cause: error.message,
        untouched,
        next: 'it is tried again by itself, and says which one',
      },
      error,
    );
  }
}

function refusal(
  configNamespace: string,
  { workflowId, namespace }: Holder,
  since: string | undefined,
  fate: 'at-work' | 'unknown',
): Error {
  const what = `Another migration holds this cluster: ${workflowId}`;
  const where = `workflow ${workflowId} of Temporal namespace ${namespace}, since ${since ?? 'some time'}`;
  const nothing = 'everything; this migration has done nothing, and the other one goes on';
  if (fate === 'at-work') {
    return needsHuman({
      what,
      cause: `${where}, is at work`,
      untouched: nothing,
      next: `ferry status ${workflowId}; when it has ended: ferry resume; to give this one up: ferry abort`,
    });
  }
  return needsHuman({
    what,
    cause: `${where}, is not known to this Temporal server, which so cannot say whether it has ended`,
    untouched: nothing,
    next: `ask whoever started it (temporal workflow describe -w ${workflowId} -n ${namespace}, on the server where it ran); if it has ended: kubectl -n ${configNamespace} delete lease ${leaseName}, then: ferry resume; to give this one up: ferry abort`,
  });
}

async function letGo(
  api: KubernetesApi,
  { configNamespace, holder }: HoldInput,
): ReturnType<LeaseActivities['letClusterGo']> {
  const found = await findLease(api, configNamespace);
  if (found === undefined) return { changed: false, proof: 'no migration holds the cluster' };
  const now = holderOf(found);
  if (now.firstRunId !== holder.firstRunId) {
    return { changed: false, proof: `${now.workflowId} holds the cluster, and goes on doing so` };
  }
  const { uid, resourceVersion } = found.metadata;
  try {
    await api.request('DELETE', path(group, configNamespace, 'leases', leaseName), {
      body: { preconditions: { uid, resourceVersion } },
    });
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 404) throw error;
  }
  return { changed: true, proof: `Lease ${configNamespace}/${leaseName} is gone` };
}

/** A chain of runs is at work as long as its last run is; one that is not known here may be another server's. */
async function askTemporal(holder: Holder, asker: Holder): Promise<Fate> {
  if (holder.namespace !== asker.namespace) return 'unknown';
  const { workflow } = Context.current().client;
  try {
    const first = await workflow.getHandle(holder.workflowId, holder.firstRunId).describe();
    if (first.status.name === 'RUNNING') return 'at-work';
    // Of one id only one chain is at work, and that is the one that asks.
    if (first.status.name !== 'CONTINUED_AS_NEW' || holder.workflowId === asker.workflowId) return 'ended';
    const last = await workflow.getHandle(holder.workflowId).describe();
    return last.status.name === 'RUNNING' ? 'at-work' : 'ended';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'unknown';
    throw error;
  }
}
