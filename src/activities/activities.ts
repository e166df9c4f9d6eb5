import type { KubeConfig } from '@kubernetes/client-node';
import type { Hosts, Jobs } from '../hosts/contract.ts';
import type { Plan } from '../plan/plan.ts';
import { defaultBackupDirectory } from '../plan/plan.ts';
import { createLeaseActivities } from './cluster-lease.ts';
import type { MigrationActivities, PreflightActivities } from './contract.ts';
import { type Deadlines, defaultDeadlines } from './deadlines.ts';
import { createEtcdActivities } from './etcd.ts';
import { createImageActivities } from './images.ts';
import { createKubernetesApi } from './kubernetes-api.ts';
import { createKubernetesActivities } from './kubernetes.ts';
import { createMasterActivities } from './masters.ts';
import { createNotifyActivities, environmentTargets, type TargetLookup } from './notify.ts';
import { createProbeActivities } from './probes.ts';
import { createProtonCliActivities } from './proton-cli.ts';
import { createSecretActivities } from './secrets.ts';
import { createSystemdActivities } from './systemd.ts';

export interface ActivityDeps {
  /** See loadKubeConfig. */
  kubeConfig: KubeConfig;
  hosts: Hosts;
  jobs: Jobs;
  /** Where backups go; default: /var/lib/ferry/backup, not encrypted. */
  backup?: Plan['backup'];
  /** Default: from FERRY_NOTIFY_<NAME> of the environment. */
  notifyTargets?: TargetLookup;
  deadlines?: Partial<Deadlines>;
}

/** All activities of the migration but preflight and the mover's, ready to be spread into a worker. */
export function createMigrationActivities(deps: ActivityDeps): Omit<MigrationActivities, keyof PreflightActivities> {
  const api = createKubernetesApi(deps.kubeConfig);
  const deadlines = { ...defaultDeadlines, ...deps.deadlines };
  const { hosts, jobs } = deps;
  const backup = deps.backup ?? { directory: defaultBackupDirectory };
  return {
    ...createLeaseActivities({ api }),
    ...createKubernetesActivities({ api, hosts, deadlines }),
    ...createImageActivities({ api, hosts }),
    ...createSecretActivities({ api, hosts, backup }),
    ...createEtcdActivities({ hosts, backup, deadlines }),
    ...createMasterActivities({ api, hosts, deadlines }),
    ...createProtonCliActivities({ api, hosts, jobs, deadlines }),
    ...createSystemdActivities({ hosts, deadlines }),
    ...createProbeActivities({ api, hosts }),
    ...createNotifyActivities({ targets: deps.notifyTargets ?? environmentTargets(process.env) }),
  };
}
