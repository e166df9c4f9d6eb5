import { counted } from '../../plan/counted.ts';
import type { Plan } from '../../plan/plan.ts';
import { defaultBackupDirectory } from '../../plan/plan.ts';
import { planReference } from '../apply-config.ts';
import { controlOf, mastersNow } from '../masters.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { hostNamed } from '../migration.ts';
import { act } from '../parking.ts';

/** Both Secrets and their companions saved on the control host, and a snapshot of etcd where masters change; history holds digests only. */
export const backup: Phase = { name: 'backup', section: 6, run: (migration) => save(migration, 'backup') };

/** The same once more, kept beside the first: what was saved before a long wait is no longer what is there. */
export function saveAgain(migration: Migration, phase: PhaseName): Promise<string> {
  return save(migration, phase, { again: true });
}

/** Where and with which key the plan wants it; its default directory is no wish. */
function namedBackup({ backup: { directory, keyFile } }: Plan): Partial<Plan['backup']> {
  return {
    ...(directory === defaultBackupDirectory ? {} : { directory }),
    ...(keyFile === undefined ? {} : { keyFile }),
  };
}

async function save(migration: Migration, phase: PhaseName, repeated: { again?: true } = {}): Promise<string> {
  const { plan } = migration;
  const control = controlOf(migration);
  const saved = await act(migration, phase, 'backupSecrets', `Secrets to ${control.name}`, {
    migration: plan.cluster,
    control,
    plan: planReference(plan),
    backup: namedBackup(plan),
    ...repeated,
  });
  const masters = mastersNow(migration).map((name) => hostNamed(plan, name));
  if (masters.length === 0) {
    return `${saved.proof} (${counted(saved.files.length, 'file')})`;
  }
  const snapshot = await act(migration, phase, 'snapshotEtcd', 'snapshot of etcd', {
    migration: plan.cluster,
    via: masters,
    backup: namedBackup(plan),
    ...repeated,
  });
  return `${saved.proof} (${counted(saved.files.length, 'file')}); ${snapshot.proof}`;
}
