import { counted } from '../../plan/counted.ts';
import { apply } from '../apply-config.ts';
import { controlOf } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity } from '../migration.ts';
import { act, step } from '../parking.ts';
import { provePlaces } from '../placement.ts';
import { usersFirst, volumesOf } from './uninstall.ts';

/** Components on the new nodes, over the copied data, while the old nodes are still listed. */
export const reinstall: Phase = {
  name: 'reinstall',
  section: 15,
  run: install,
  undo: uninstallFromNew,
  skip: (plan) => (plan.components.length > 0 ? undefined : 'the plan moves no component'),
};

async function install(migration: Migration): Promise<string> {
  await apply(migration, 'reinstall', 'reinstall');
  return provePlaces(migration, 'reinstall', 'to');
}

async function uninstallFromNew(migration: Migration): Promise<string> {
  const { plan } = migration;
  if (!migration.state.applied.includes('reinstall')) {
    return 'nothing had been installed on the new nodes';
  }
  // The objects on the new nodes are new ones: their names are read afresh, the first snapshot stays as it is.
  const volumes = await act(migration, 'reinstall', 'recordVolumes', 'names of the new volumes and claims', {
    components: plan.components,
  });
  for (const component of usersFirst(plan.components)) {
    await step(migration, 'reinstall', () =>
      callActivity(migration, 'uninstallComponent', `uninstall ${component.kind} from the new nodes`, {
        migration: plan.cluster,
        component,
        control: controlOf(migration),
        volumes: volumesOf(volumes, component.kind),
      }),
    );
  }
  return `${counted(plan.components.length, 'component')} gone from the new nodes`;
}
