import { planReference } from '../apply-config.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { act } from '../parking.ts';

/** Hosts of every component replaced in place where the platform records them, so that it accepts them later. */
export const editSecrets: Phase = {
  name: 'edit-secrets',
  section: 10,
  run: (migration) => rewriteHosts(migration, 'edit-secrets', 'forth'),
  undo: (migration) => rewriteHosts(migration, 'edit-secrets', 'back'),
  skip: (plan) => (plan.components.length > 0 ? undefined : 'the plan moves no component'),
};

/** Read anew, patched under resourceVersion, nothing else touched. */
export async function rewriteHosts(
  migration: Migration,
  phase: PhaseName,
  direction: 'forth' | 'back',
): Promise<string> {
  const { plan } = migration;
  const edited = await act(
    migration,
    phase,
    'editSecrets',
    direction === 'forth' ? 'hosts of components to the new nodes' : 'hosts of components back to the old nodes',
    { migration: plan.cluster, plan: planReference(plan), components: plan.components, direction },
  );
  return edited.proof;
}
