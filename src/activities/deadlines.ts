/**
 * How long an activity looks before it says what is still missing, milliseconds. One row each, with its reason. All are shorter than
 * the activity's time limit, so that the message that names the obstacle wins over a bare timeout.
 */
export interface Deadlines {
  /** Pods of a namespace to be gone: the platform's longest grace is 300 s (prometheus), and evictions queue up behind it. */
  podsGone: number;
  /** Running Jobs of CronJobs may finish by themselves for this long; then they are suspended, which ends their pods. */
  cronJobsFinish: number;
  /** Pods and Jobs that nothing recorded owns are watched for this long before a person is asked. */
  strays: number;
  /** Workloads to be ready: image pulls were done before; databases replay their logs. */
  ready: number;
  /** All of a component to be gone: its last grace period (opensearch 120 s, prometheus 300 s), then garbage collection. */
  gone: number;
  /** Nodes and their namespaces after a start or reboot. */
  healthy: number;
  /** Pods that are starting or were restarted just now, before preflight calls them ill; a readiness probe needs a few periods of 10 s. */
  settled: number;
  /** Pods that were ill a moment ago to stay sound: one that crashes again and again looks sound in between. */
  staysSettled: number;
  /** All replicas of reinstalled components on their hosts; cluster databases form their quorum in this time. */
  placed: number;
  /** The operator to make the master service by itself before it is restarted, and again afterwards. */
  masterService: number;
  /** The restarted operator to be available again: leader election of two replicas. */
  operator: number;
  /** A machine to come back with another boot id; firmware of real servers takes minutes. */
  reboot: number;
  /** Members of etcd to be as many as there should be, caught up: one that joins late is sent a whole snapshot of up to 8 GiB. */
  members: number;
  /** The rest of etcd to agree again after a leader or member left: the platform's elections take 5 to 10 s, and several may be needed. */
  memberLeft: number;
  /** A machine that does not answer to be taken for one that is away, and not for one that is slow. */
  away: number;
  /** A node's pods to be evicted; the longest grace is 300 s (prometheus), and disruption budgets let them go one at a time. */
  drained: number;
  /** Containers of one machine to end: 10 s of grace, then KILL. */
  containersEnd: number;
  /** A deleted Node to stay away; a kubelet that still ran has registered again 6 s after its start. */
  nodeStaysAway: number;
  /** One apply: pushes all images to every registry, 10 s per node, 10 min for each operator. */
  apply: number;
}

const second = 1000;
const minute = 60 * second;

export const defaultDeadlines: Deadlines = {
  podsGone: 10 * minute,
  cronJobsFinish: minute,
  strays: 30 * second,
  ready: 20 * minute,
  gone: 12 * minute,
  healthy: 15 * minute,
  settled: minute,
  staysSettled: 10 * second,
  placed: 15 * minute,
  masterService: 2 * minute,
  operator: 4 * minute,
  reboot: 20 * minute,
  members: 12 * minute,
  memberLeft: 2 * minute,
  away: 20 * second,
  drained: 12 * minute,
  containersEnd: 2 * minute,
  nodeStaysAway: 10 * second,
  apply: 80 * minute,
};
