import { condition } from '@temporalio/workflow';
import { begin, end, isDown, spentSeconds } from './downtime.ts';
import type { Migration } from './migration.ts';
import { now, notify, publish } from './migration.ts';
import { duration } from './status.ts';

/** The first stop: applications are about to go down. */
export function startDowntime(migration: Migration): void {
  if (isDown(migration.state.downtime)) {
    return;
  }
  migration.state.downtime = begin(migration.state.downtime, now());
  publish(migration);
  watchBudget(migration);
}

/** The recorded applications are ready again. */
export function endDowntime(migration: Migration): void {
  migration.state.downtime = end(migration.state.downtime, now());
  publish(migration);
}

/** Says so, once, when the downtime grows beyond its budget; nothing is stopped for it. */
export function watchBudget(migration: Migration): void {
  const { plan, state } = migration;
  if (!isDown(state.downtime) || state.budgetReported) {
    return;
  }
  const left = Math.max(1, plan.downtime.budgetSeconds - spentSeconds(state.downtime, Date.now()));
  void migration.shield.run(async () => {
    const isOver = await condition(() => !isDown(migration.state.downtime), Math.ceil(left * 1000), {
      summary: `downtime budget of ${duration(plan.downtime.budgetSeconds)}`,
    });
    if (isOver || migration.state.budgetReported) {
      return;
    }
    migration.state.budgetReported = true;
    notify(
      migration,
      'budget-exceeded',
      `The downtime of ${plan.cluster} has passed its budget of ${duration(plan.downtime.budgetSeconds)}. Nothing is stopped for it; look at the status for what is at work.`,
    );
  });
}
