import { endDowntime, startDowntime } from '../clock.ts';
import type { Migration, Phase } from '../migration.ts';
import { act, needsHuman } from '../parking.ts';

/** Applications as they were recorded. From here on they write on the new nodes. */
export const startApps: Phase = { name: 'start-apps', section: 16, run: start, undo: stopAgain };

async function start(migration: Migration): Promise<string> {
  const record = migration.state.applications;
  if (record === undefined) {
    throw needsHuman({
      cause: 'no record of the applications exists',
      untouched: 'no application was started',
      next: 'abort: the way back does not need the record if nothing was stopped',
    });
  }
  migration.state.applicationsReleased = true;
  const started = await act(migration, 'start-apps', 'startApplications', 'applications as recorded', {
    migration: migration.plan.cluster,
    record,
  });
  endDowntime(migration);
  return started.proof;
}

async function stopAgain(migration: Migration): Promise<string> {
  const record = migration.state.applications;
  if (!migration.state.applicationsReleased || record === undefined) {
    return 'no application had been started on the new nodes';
  }
  startDowntime(migration);
  const stopped = await act(migration, 'start-apps', 'stopApplications', 'stop applications once more', {
    migration: migration.plan.cluster,
    namespaces: migration.plan.applications.namespaces,
    record,
  });
  return stopped.proof;
}
