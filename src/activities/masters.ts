import type { Hosts } from '../hosts/contract.ts';
import type { MasterActivities } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { permanent } from './failures.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

export interface MasterDeps {
  api: KubernetesApi;
  hosts: Hosts;
  deadlines: Deadlines;
}

function missing(what: string): () => Promise<never> {
  return () =>
    Promise.reject(
      permanent({
        what: `${what} cannot be done`,
        cause: 'this build of the worker does not have it yet',
        untouched: 'everything',
        next: 'run a worker that has it, then: ferry resume',
      }),
    );
}

/** Nodes that come and go where the control plane runs on them. */
export function createMasterActivities(
  _deps: MasterDeps,
): Omit<MasterActivities, 'listMembers' | 'awaitMembers' | 'snapshotEtcd' | 'leaveEtcd'> {
  return {
    matchTaints: missing('Matching taints'),
    setBalancers: missing('Setting the load balancers'),
    drainNode: missing('Draining a node'),
    resetNode: missing('Resetting a machine'),
    deleteNode: missing('Deleting a Node'),
    moveControl: missing('Moving the control host'),
    listLeftovers: missing('Listing leftovers'),
  };
}
