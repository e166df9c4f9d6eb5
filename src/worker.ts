import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { DataConverter } from '@temporalio/common';
import type { NativeConnection } from '@temporalio/worker';
import { Worker } from '@temporalio/worker';
import type { MigrationActivities } from './activities/contract.ts';
import { rememberTries } from './activities/earlier-tries.ts';
import { createTransferActivities } from './activities/transfer.ts';
import type { Hosts, Jobs } from './hosts/contract.ts';
import { createJobs } from './hosts/jobs.ts';
import { createHosts } from './hosts/ssh.ts';
import type { Plan } from './plan/plan.ts';
import { version } from './version.ts';
import { workflowCode } from './workflow-bundle.ts';
import { taskQueue as defaultTaskQueue } from './workflows/messages.ts';

export interface FerryWorkerOptions {
  connection: NativeConnection;
  /** Default `default`. */
  namespace?: string;
  /** Default `ferry`. */
  taskQueue?: string;
  /** Serves copies of directories and nothing else: no cluster is asked for anything. Default false. */
  copiesOnly?: boolean;
  /** File; default as kubectl does it: KUBECONFIG, ~/.kube/config, in-cluster. */
  kubeconfig?: string;
  /** Private key that opens the machines; only its path is ever passed on. */
  sshIdentity: string;
  sshPassphrase?: string;
  /** Where the Secrets are saved on the control host, and the key that encrypts them. */
  backup?: Plan['backup'];
  /** Activities at the same time; default 50. */
  maxActivities?: number;
  /** Seconds that activities get to end by themselves before they are told to let go; default 10. */
  graceSeconds?: number;
  dataConverter?: DataConverter;
}

export interface FerryWorker {
  /** Runs until shutdown. */
  run(): Promise<void>;
  shutdown(): void;
}

/** Name of this worker in every task of the history: program, version, process, machine. */
export function workerIdentity(): string {
  return `ferry/${version} ${process.pid}@${hostname()}`;
}

/** Everything put together: both workflows and all activities on one task queue. */
export async function createFerryWorker(options: FerryWorkerOptions): Promise<FerryWorker> {
  const passphrase = options.sshPassphrase;
  const hosts = createHosts({
    privateKey: readFileSync(options.sshIdentity),
    ...(passphrase === undefined ? {} : { passphrase }),
  });
  const jobs = createJobs();
  const worker = await Worker.create({
    connection: options.connection,
    namespace: options.namespace ?? 'default',
    taskQueue: options.taskQueue ?? defaultTaskQueue,
    identity: workerIdentity(),
    ...workflowCode(),
    activities: {
      ...(options.copiesOnly === true ? {} : await migrationActivities(options, hosts, jobs)),
      ...createTransferActivities({ hosts, jobs }),
    },
    interceptors: { activity: [rememberTries] },
    maxConcurrentActivityTaskExecutions: options.maxActivities ?? 50,
    // A workflow that is kept takes a megabyte and more; one that is not is replayed from its history, which is short.
    maxCachedWorkflows: 10,
    // Progress on the screen is as old as this.
    maxHeartbeatThrottleInterval: '5s',
    // Activities are observers of units that live on the hosts: they need moments to let go, not minutes.
    shutdownGraceTime: (options.graceSeconds ?? 10) * 1000,
    shutdownForceTime: '30s',
    ...(options.dataConverter && { dataConverter: options.dataConverter }),
  });
  return {
    async run() {
      try {
        await worker.run();
      } finally {
        await hosts.close();
      }
    },
    shutdown: () => worker.shutdown(),
  };
}

/** Loaded only where migrations are served: the client of Kubernetes is a third of the worker's heap. */
async function migrationActivities(
  { kubeconfig, backup }: FerryWorkerOptions,
  hosts: Hosts,
  jobs: Jobs,
): Promise<MigrationActivities> {
  const [{ createMigrationActivities }, { createKubernetesApi, loadKubeConfig }, { createPreflightActivities }] =
    await Promise.all([
      import('./activities/activities.ts'),
      import('./activities/kubernetes-api.ts'),
      import('./activities/preflight.ts'),
    ]);
  const kubeConfig = loadKubeConfig(kubeconfig);
  return {
    ...createMigrationActivities({ kubeConfig, hosts, jobs, ...(backup && { backup }) }),
    ...createPreflightActivities({ api: createKubernetesApi(kubeConfig), hosts }),
  };
}
