import type { Hosts } from '../hosts/contract.ts';
import type { Plan } from '../plan/plan.ts';
import type { MasterActivities } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { permanent } from './failures.ts';

export interface EtcdDeps {
  hosts: Hosts;
  /** Where backups go on a host, and the key on the worker; used when the input names none. */
  backup: Plan['backup'];
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

/** The platform's own etcd: its members, its snapshot, and how one of them leaves. */
export function createEtcdActivities(
  _deps: EtcdDeps,
): Pick<MasterActivities, 'listMembers' | 'awaitMembers' | 'snapshotEtcd' | 'leaveEtcd'> {
  return {
    listMembers: missing('Listing the members of etcd'),
    awaitMembers: missing('Waiting for the members of etcd'),
    snapshotEtcd: missing('A snapshot of etcd'),
    leaveEtcd: missing('Leaving etcd'),
  };
}
