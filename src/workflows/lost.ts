import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow';
import { depart } from './departure.ts';
import type { Migration } from './migration.ts';
import { callActivity, hostNamed, publish } from './migration.ts';
import { needsHuman, step } from './parking.ts';
import { phaseOf } from './state.ts';

/*
 * New machines that are lost when a migration goes back. Nothing of them is needed there, and whatever waited for them would wait for good: the
 * platform's tool fails at every listed node that does not answer, and pods of a dead node never end. So they leave first, and nothing is asked
 * of them afterwards. An old machine that is lost is waited for: its data is needed.
 */

/** Finds new machines that do not answer ssh. Whether they really are gone is decided when they are to leave, with the API at hand. */
export async function findLost(migration: Migration): Promise<void> {
  const { plan, state } = migration;
  if (!state.applied.includes('add-nodes')) {
    return;
  }
  const asked = plan.nodes.add
    .map(({ name }) => name)
    .filter((name) => !state.lost?.includes(name) && !state.departed?.includes(name));
  const silent = await step(migration, 'add-nodes', () => silentOf(migration, asked));
  if (silent.length > 0) {
    noteLost(migration, [...(state.lost ?? []), ...silent]);
  }
}

/** Takes lost machines out of the cluster, etcd and all. */
export async function letLostGo(migration: Migration): Promise<void> {
  await confirmLost(migration);
  const leaving = (migration.state.lost ?? []).filter((name) => !migration.state.departed?.includes(name));
  if (leaving.length > 0) {
    await depart(migration, 'add-nodes', leaving);
  }
}

/** One that answers again is not lost; one whose kubelet still reports to the API is none either, and would come back by itself: people decide. */
export async function confirmLost(migration: Migration): Promise<void> {
  await step(migration, 'add-nodes', async () => {
    const staying = (migration.state.lost ?? []).filter((name) => !migration.state.departed?.includes(name));
    if (staying.length === 0) {
      return;
    }
    const live = await callActivity(migration, 'listNodes', `whether ${staying.join(', ')} are Ready`);
    const reporting = staying.filter((name) => live.some((node) => node.name === name && node.ready));
    const silent = await silentOf(migration, reporting);
    const back = reporting.filter((name) => !silent.includes(name));
    noteLost(
      migration,
      (migration.state.lost ?? []).filter((name) => !back.includes(name)),
    );
    if (silent.length > 0) {
      throw needsHuman({
        cause: `${silent.join(', ')} did not answer ssh, and their kubelets report that all is well: such machines would come back by themselves`,
        untouched: `${silent.join(', ')}, and the way back so far; the old machines and their data`,
        next: `repair ssh to ${silent.join(', ')}, or switch them off and wait until kubectl get nodes says NotReady, then: ferry resume`,
      });
    }
  });
}

function noteLost(migration: Migration, lost: readonly string[]): void {
  migration.state.lost = [...lost];
  const status = phaseOf(migration.state, 'add-nodes');
  status.detail =
    lost.length === 0 ? 'all new machines answer' : `lost, and left out on the way back: ${lost.join(', ')}`;
  publish(migration);
}

/** Of these machines, those that do not answer ssh at any of the tries. */
async function silentOf(migration: Migration, names: readonly string[]): Promise<string[]> {
  const answers = await Promise.all(names.map((name) => isSilent(migration, name)));
  return names.filter((_name, index) => answers[index]);
}

async function isSilent(migration: Migration, name: string): Promise<boolean> {
  try {
    await callActivity(migration, 'readBootId', `whether ${name} answers`, { host: hostNamed(migration.plan, name) });
    return false;
  } catch (error) {
    // A machine that refuses, or shows another key, is there: that is for people.
    const cause = error instanceof ActivityFailure ? error.cause : undefined;
    const isAway =
      cause instanceof TimeoutFailure || (cause instanceof ApplicationFailure && cause.type === 'Transient');
    if (!isAway) {
      throw error;
    }
    return true;
  }
}
