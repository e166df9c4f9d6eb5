import { withBar } from './bar.ts';
import { confirmLost, findLost, letLostGo } from './lost.ts';
import { controlOf, isStacked } from './masters.ts';
import type { PhaseName } from './messages.ts';
import type { Migration, Phase } from './migration.ts';
import { now, publish } from './migration.ts';
import { currentPhase } from './gates.ts';
import { act, pausePoint } from './parking.ts';
import { phaseOf } from './state.ts';

/** An apply whose observer died may still run, and would finish over what is undone. */
async function settleApply(migration: Migration): Promise<void> {
  const { plan, state } = migration;
  if (state.applied.length === 0) {
    return;
  }
  await act(migration, currentPhase(state), 'settleApply', 'no apply runs any more', {
    migration: plan.cluster,
    control: controlOf(migration),
  });
}

/** Before an undo: what is lost leaves, but where the undo itself has to say when. */
async function withoutLost(migration: Migration, undo: PhaseName): Promise<void> {
  if (undo === 'stop-host-services') {
    // With host services down somewhere etcd may lack the majority to let a member go: they come first.
    return;
  }
  if (undo === 'add-nodes' && isStacked(migration.plan)) {
    // A join that failed may have left a member that has to leave before the others can.
    await confirmLost(migration);
    return;
  }
  await letLostGo(migration);
}

/** Runs the registered undos in reverse. Nothing cancels it; an undo that fails parks and is tried again. */
export async function rollBack(migration: Migration, phases: readonly Phase[]): Promise<void> {
  await settleApply(migration);
  await findLost(migration);
  for (let name = migration.state.undo.at(-1); name !== undefined; name = migration.state.undo.at(-1)) {
    const registered = name;
    const phase = phases.find((candidate) => candidate.name === registered);
    const status = phaseOf(migration.state, registered);
    await pausePoint(migration);
    status.state = 'undoing';
    publish(migration);
    const undo = phase?.undo;
    if (undo !== undefined) {
      status.detail = await withBar(`undo §${status.section} ${status.name}`, async () => {
        await withoutLost(migration, registered);
        return undo(migration);
      });
    }
    status.state = 'undone';
    status.endedAt = now();
    migration.state.undo = migration.state.undo.slice(0, -1);
    publish(migration);
  }
  for (const status of migration.state.phases) {
    if (status.state === 'running') {
      // Phases without an undo leave nothing behind in the cluster.
      status.state = 'undone';
      status.endedAt = now();
    }
  }
}
