import { startDowntime, endDowntime } from '../clock.ts';
import type { Migration, Phase } from '../migration.ts';
import { holdCluster } from '../one-at-a-time.ts';
import { act } from '../parking.ts';
import { saveAgain } from './backup.ts';
import { checkAgain } from './preflight.ts';
import { takenProbes, untakenProbes } from '../unproved.ts';

/** Every application of the plan's namespaces down, proved by the API; what ran is recorded once and for all before. */
export const stopApps: Phase = { name: 'stop-apps', section: 8, run: stop, undo: startAgain };

async function stop(migration: Migration): Promise<string> {
  const { plan } = migration;
  const { namespaces } = plan.applications;
  // The gate may have been open for days, and somebody may have taken the mark away by hand.
  await holdCluster(migration, 'stop-apps');
  const checked = migration.state.applications === undefined ? await checkAgain(migration, 'stop-apps') : undefined;
  const saved = checked === undefined ? undefined : await saveAgain(migration, 'stop-apps');
  migration.state.applications ??= await act(
    migration,
    'stop-apps',
    'recordApplications',
    'what runs before anything is stopped',
    { migration: plan.cluster, namespaces },
  );
  const record = migration.state.applications;
  startDowntime(migration);
  const stopped = await act(migration, 'stop-apps', 'stopApplications', `stop ${namespaces.join(', ')}`, {
    migration: plan.cluster,
    namespaces,
    record,
  });
  // Now nothing writes any more: these values must be found again, to the last digit, on the new nodes.
  if (migration.state.probes === undefined) {
    const probes = await act(migration, 'stop-apps', 'takeProbes', 'probes of the components at rest', {
      components: plan.components,
      side: 'from',
      hosts: plan.hosts,
    });
    migration.state.probes = takenProbes(probes);
    migration.state.unproved = untakenProbes(probes);
  }
  return [checked, saved, stopped.proof].filter((part) => part !== undefined).join('; ');
}

async function startAgain(migration: Migration): Promise<string> {
  const record = migration.state.applications;
  if (record === undefined) {
    return 'nothing had been stopped';
  }
  const started = await act(migration, 'stop-apps', 'startApplications', 'applications back on the old nodes', {
    migration: migration.plan.cluster,
    record,
  });
  endDowntime(migration);
  return started.proof;
}
