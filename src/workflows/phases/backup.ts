import { counted } from '../../plan/counted.ts';
import type { Plan } from '../../plan/plan.ts';
import { defaultBackupDirectory } from '../../plan/plan.ts';
import { planReference } from '../apply-config.ts';
import { controlOf, mastersNow } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { hostNamed } from '../migration.ts';
import { act } from '../parking.ts';

/** Both Secrets and their companions saved on the control host, and a snapshot of etcd where masters change; history holds digests only. */
export const backup: Phase = { name: 'backup', section: 6, run: saveSecrets };

/** Where and with which key the plan wants it; its default directory is no wish. */
function namedBackup({ backup: { directory, keyFile } }: Plan): Partial<Plan['backup']> {
  return {
    ...(directory === defaultBackupDirectory ? {} : { directory }),
    ...(keyFile === undefined ? {} : { keyFile }),
  };
}

async function saveSecrets(migration: Migration): Promise<string> {
  const { plan } = migration;
  const saved = await act(migration, 'backup', 'backupSecrets', `Secrets to ${plan.platform.controlHost}`, {
    migration: plan.cluster,
    control: controlOf(migration),
    plan: planReference(plan),
    backup: namedBackup(plan),
  });
  const masters = mastersNow(migration).map((name) => hostNamed(plan, name));
  if (masters.length === 0) {
    return `${saved.proof} (${counted(saved.files.length, 'file')})`;
  }
  const snapshot = await act(migration, 'backup', 'snapshotEtcd', 'snapshot of etcd', {
    migration: plan.cluster,
    via: masters,
    backup: namedBackup(plan),
  });
  return `${saved.proof} (${counted(saved.files.length, 'file')}); ${snapshot.proof}`;
}
