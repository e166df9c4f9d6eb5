import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { act } from './parking.ts';

/** Every claim, volume, path, pod and node as the plan says for that side. */
export async function provePlaces(migration: Migration, phase: PhaseName, side: 'from' | 'to'): Promise<string> {
  const { plan } = migration;
  if (plan.components.some((component) => component.kind === 'mariadb')) {
    await act(migration, phase, 'repairMariadbMaster', 'master service of mariadb', {
      resourceNamespace: plan.platform.resourceNamespace,
    });
  }
  const placement = await act(
    migration,
    phase,
    'provePlacement',
    side === 'to' ? 'components on the new nodes' : 'components on the old nodes',
    { components: plan.components, side },
  );
  return placement.proof;
}
