import type { ConfigEditStage } from '../plan/config-edit.ts';
import type { ComponentKind, GateName, Host, Plan, PlannedComponent } from '../plan/plan.ts';

/*
 * Shapes of all activities but the mover's: small references in, small typed evidence out. No Secret value, file list or log
 * ever travels. Failures are `ApplicationFailure`s whose `type` is one of `FailureType` and whose message is written for the
 * operator: what happened, why, what was left untouched, the next command.
 */

/**
 * heals-by-itself (`Transient`, retried), heals-by-a-human (`NeedsHuman`, parks the phase), never-heals-here (`Permanent`, parks with
 * abort offered). Unknown errors are retried a few times and then park.
 */
export type FailureType = 'Transient' | 'NeedsHuman' | 'Permanent';

/** Details of an ApplicationFailure (its first detail). */
export interface FailureDetail {
  cause: string;
  untouched: string;
  next: string;
}

/**
 * What earlier tries of an activity said, `{ earlierTries: Try[] }`: second detail of its failure, and beside whatever else the details of
 * its heartbeats hold. Tries that failed alike are one entry; tries without one left no word, as those of a worker that was lost.
 */
export interface Try {
  from: number;
  to: number;
  cause: string;
}

/** What every mutating activity returns. */
export interface Evidence {
  /** False when the world already was as wanted and nothing had to be changed. */
  changed: boolean;
  /** One line for people: what was proved and how. */
  proof: string;
}

export interface CheckResult {
  name: string;
  state: 'ok' | 'warning' | 'failed';
  cause?: string;
  /** The command that helps. */
  next?: string;
}

export interface PreflightActivities {
  /** All checks of the plan against the live world; changes nothing. `workflowId`: of the migration that asks. */
  preflight(input: { plan: Plan; workflowId?: string }): Promise<CheckResult[]>;
}

/** A migration as others can find it: its id, where, and the first run of its chain of histories, which no other one has. */
export interface Holder {
  workflowId: string;
  /** Of the Temporal server. */
  namespace: string;
  firstRunId: string;
}

export interface LeaseActivities {
  /**
   * Marks in the cluster itself that this migration works on it; refuses while another one does, or while nobody can tell whether it still
   * does. One that has ended without letting go is passed over.
   */
  holdCluster(input: { configNamespace: string; holder: Holder }): Promise<Evidence>;
  /** Takes the mark away, if it is this migration's. */
  letClusterGo(input: { configNamespace: string; holder: Holder }): Promise<Evidence>;
}

export interface WorkloadRecord {
  kind: 'Deployment' | 'StatefulSet' | 'DaemonSet' | 'CronJob' | 'HorizontalPodAutoscaler';
  namespace: string;
  name: string;
  /** Deployment, StatefulSet: replicas. HPA: minReplicas (0 = unset). */
  replicas?: number;
  /** CronJob. */
  suspended?: boolean;
  /** DaemonSet: its own nodeSelector, kept in place; stop adds one more key. */
  nodeSelector?: Record<string, string>;
  /** Deployment, StatefulSet, DaemonSet: how many pods were ready, where not all were. Absent in the records of older workers. */
  ready?: number | 'all';
}
/** Taken once, before anything is stopped; lives in workflow state. */
export interface ApplicationRecord {
  takenAt: string;
  workloads: WorkloadRecord[];
}

export interface PlacementRow {
  component: ComponentKind;
  ordinal: number;
  pvc: string;
  pv: string;
  pod: string;
  node: string;
  path: string;
  ready: boolean;
}

export interface VolumeRecord {
  component: ComponentKind;
  namespace: string;
  /** Names only, from a snapshot of the live cluster; deletion is by these names. */
  persistentVolumes: string[];
  claims: string[];
  statefulSets: string[];
}

export interface KubernetesActivities {
  recordApplications(input: { migration: string; namespaces: string[] }): Promise<ApplicationRecord>;
  /** Scales down, suspends, parks DaemonSets; leaves breadcrumbs (annotations); then polls until a successful API answer shows 0 pods Pending, Running or Unknown. */
  stopApplications(input: { migration: string; namespaces: string[]; record: ApplicationRecord }): Promise<Evidence>;
  /** Puts every workload back to the record, removes breadcrumbs, polls until ready (by numbers and observedGeneration, 0 replicas skipped). */
  startApplications(input: { migration: string; record: ApplicationRecord }): Promise<Evidence>;
  /** PVs, PVCs and StatefulSets of the components, by name. Refuses a PV whose reclaim policy is not Retain. */
  recordVolumes(input: { components: PlannedComponent[] }): Promise<VolumeRecord[]>;
  /** Helm release or CR of one component, its pods, then PVCs, then PVs, by name; polls until gone and names the blocking finalizer. Idempotent. */
  uninstallComponent(input: {
    migration: string;
    component: PlannedComponent;
    volumes: VolumeRecord;
    /** Where helm runs; absent: on the worker, against whatever its helm is configured for. */
    control?: Host;
  }): Promise<Evidence>;
  /**
   * Nodes Ready (exactly these names must exist) and no unhealthy pod in the namespaces. `illBefore`: workloads of which not all pods were
   * ready before the migration; they need not be better than that. `stillIll` names those of their pods that are not sound.
   */
  awaitClusterHealthy(input: {
    nodes: string[];
    namespaces: string[];
    illBefore?: WorkloadRecord[];
  }): Promise<Evidence & { stillIll?: string[] }>;
  /** PVC → PV → node affinity and path → pod → node compared with the plan ('from': old hosts, 'to': new hosts); polls until all pods are ready. */
  provePlacement(input: {
    components: PlannedComponent[];
    side: 'from' | 'to';
  }): Promise<{ proof: string; rows: PlacementRow[] }>;
  /** Restarts the mariadb operator only if the master service has no endpoint. */
  repairMariadbMaster(input: { resourceNamespace: string }): Promise<Evidence>;
  listNodes(): Promise<{ name: string; ready: boolean; controlPlane: boolean }[]>;
  /** Takes the breadcrumbs of a finished or rolled back migration out of the cluster. */
  clearBreadcrumbs(input: { migration: string; namespaces: string[] }): Promise<Evidence>;
}

export interface ImageActivities {
  /** Images used now by components and applications, with one host that has each. */
  listImages(input: { namespaces: string[]; references: string[] }): Promise<{ image: string; host: string }[]>;
  /** Sees that one new host has the images: pulls, else relays from the host that has it. Heartbeats bytes. */
  prewarmHost(input: {
    target: Host;
    images: { image: string; from: Host }[];
  }): Promise<Evidence & { loaded: number; present: number }>;
}

export interface SecretActivities {
  /** Saves both Secrets, the plugins Secret and ~/.proton-cli.yaml under the backup directory of the control host, 0600. */
  backupSecrets(input: {
    migration: string;
    control: Host;
    plan: PlanReference;
    /** What the plan says of it; the rest is as the worker was told. */
    backup?: Partial<Plan['backup']>;
    /** Once more, beside what was saved before: that was long ago. */
    again?: true;
  }): Promise<Evidence & { files: { name: string; digest: string }[] }>;
  /**
   * hosts (and data_path) of every component replaced in place by ordinal in both Secrets, under resourceVersion; nothing else
   * touched. `direction: 'back'` is the undo. Asserts that `.nodes` names old and new nodes first; on the way back the old ones.
   */
  editSecrets(input: {
    migration: string;
    plan: PlanReference;
    components: PlannedComponent[];
    direction: 'forth' | 'back';
  }): Promise<Evidence & { diff: string; digests: Record<string, string> }>;
}

/** The part of a plan that configuration edits need; small enough to travel. */
export type PlanReference = Pick<Plan, 'cluster' | 'platform' | 'mapping' | 'nodes' | 'containerRegistry'> & {
  /** New nodes that are taken off the list by `reinstall-back`, their Nodes being gone. */
  lost?: string[];
};

/**
 * add-nodes: old + new nodes, nothing else changed. reinstall: components on `components[].replicas[].to`, old nodes still listed.
 * reinstall-back: components on `from`, all nodes listed but those that are lost (undo). remove-nodes: only what stays. remove-new-nodes: undo of add-nodes.
 */
export type ConfigStage = ConfigEditStage;

export interface ApplyInput {
  migration: string;
  stage: ConfigStage;
  control: Host;
  plan: PlanReference;
  /** Of the prepared document. */
  digest: string;
  /** Names of the Nodes when the document was prepared. */
  nodesBefore?: string[];
}

export interface ProtonCliActivities {
  /** The recorded configuration, edited as a YAML document for the stage and kept in a Secret beside it; answers the redacted diff. */
  prepareConfig(input: {
    migration: string;
    stage: ConfigStage;
    plan: PlanReference;
    components: PlannedComponent[];
  }): Promise<{
    stage: ConfigStage;
    digest: string;
    diff: string;
    nodes: string[];
  }>;
  /** The gate of `applyConfig` alone; changes nothing. For a stage that may not be begun before it is known that it can be. */
  checkApply(input: ApplyInput): Promise<Evidence>;
  /** No apply of this migration runs any more: one whose observer died is waited for, since two at a time would edit the same nodes. */
  settleApply(input: { migration: string; control: Host }): Promise<Evidence>;
  /** Removes the prepared documents, which hold the platform's passwords, from the cluster. */
  dropPrepared(input: { migration: string; plan: PlanReference }): Promise<Evidence>;
  /**
   * Gate (API ready, config readable three times under a second, namespace file unchanged, node difference exactly as planned), apply in
   * a unit of its own on the control host that survives the worker, watched for the fresh-install line; then exit 0, success marker and
   * the Secret's content are proved. Re-attaches to a running unit. Transient failures are thrown as `Transient`: Temporal retries.
   */
  applyConfig(input: ApplyInput): Promise<Evidence & { seconds: number; attempt: number }>;
}

export interface SystemdActivities {
  /** Stops only units that exist on the host, then deals with containers that survive containerd (kills their tasks), proves nothing runs. */
  stopHostServices(input: {
    migration: string;
    host: Host;
    units: string[];
  }): Promise<Evidence & { stopped: string[] }>;
  startHostServices(input: { migration: string; host: Host; units: string[] }): Promise<Evidence>;
  /** Reboots unless the boot id already differs from `bootId`; waits for the new boot id within the timeout. */
  readBootId(input: { host: Host }): Promise<string>;
  rebootHost(input: { host: Host; bootId: string }): Promise<Evidence>;
}

/** Result of one probe of one component; compared before and after. Values are counts or digests, never data. */
export interface Probe {
  component: ComponentKind;
  ordinal: number;
  name: string;
  value: string;
  /** Why it could not be taken; then there is no value, and nothing can be compared. */
  untaken?: string;
}
export interface ProbeActivities {
  takeProbes(input: { components: PlannedComponent[]; side: 'from' | 'to'; hosts: Host[] }): Promise<Probe[]>;
}

export interface NotifyActivities {
  /** Never blocks: failures are returned, not thrown, after its retries. Asked to stop, it answers whom it reached by then. */
  notify(input: {
    targets: string[];
    event: 'gate' | 'blocked' | 'finished' | 'rolled-back' | 'budget-exceeded';
    cluster: string;
    workflowId: string;
    text: string;
    gate?: GateName;
    command?: string;
    /** Somebody waits: a few tries within half a minute. */
    brief?: true;
  }): Promise<{ delivered: string[]; failed: { target: string; why: string }[] }>;
}

/** A member of the platform's own etcd as the members themselves know it. */
export interface EtcdMember {
  /** Hexadecimal, as etcdctl takes and prints it. */
  id: string;
  /** Name of its node; empty for a member that was added and has never started. */
  name: string;
  learner: boolean;
  leader: boolean;
  /** Answers, has a leader, reports no error. */
  healthy: boolean;
  /** Raft entries it has applied, as it says itself; absent when it does not answer. */
  applied?: number;
}

export interface Master {
  name: string;
  address: string;
}

/**
 * The control plane where it runs on the nodes themselves (kubeadm's stacked topology). `via`: masters that may be asked, in this order;
 * the first that answers is used, so that no call hangs on one that is away.
 */
export interface MasterActivities {
  /** Read only. Members as the first of `via` that answers sees them. */
  listMembers(input: { via: Host[] }): Promise<{ members: EtcdMember[]; askedOf: string }>;
  /**
   * Polls until the members are exactly these nodes: all started, voting, healthy, with one leader, none behind by more than a few entries;
   * and the API server of each says ready. Names who is missing or too many when the deadline passes.
   * `away`: masters whose services are stopped just now; they must be members, but need not answer. Changes nothing.
   */
  awaitMembers(input: { via: Host[]; masters: Host[]; away?: string[] }): Promise<Evidence & { members: EtcdMember[] }>;
  /** A snapshot below the backup directory of `via`'s first that answers, 0600, checked by etcd's own tool; the old ones of this migration are kept. */
  snapshotEtcd(input: {
    migration: string;
    via: Host[];
    backup: Partial<Plan['backup']>;
    /** As for the Secrets. */
    again?: true;
  }): Promise<Evidence & { host: string; file: string; bytes: number; digest: string; revision: number; keys: number }>;
  /** Takes the taints off a joined master that the named old one does not have: the platform's tool leaves one that keeps components away. */
  matchTaints(input: { node: string; like: string }): Promise<Evidence>;
  /** Sees that the load balancers on these hosts lead to exactly these API servers, through the platform's own manager; proved by haproxy's running state where it can be asked. */
  setBalancers(input: { on: Host[]; masters: Master[] }): Promise<Evidence>;
  /** Cordons and evicts as the platform's tool does; names what cannot be evicted. A Node that is gone is drained. */
  drainNode(input: { node: string }): Promise<Evidence>;
  /** The lead of etcd is with another member, if this master's had it; to one that is not in `leavingLater` if there is one. */
  handOverLead(input: { master: Host; remaining: Host[]; leavingLater?: string[] }): Promise<Evidence>;
  /**
   * One master's member leaves etcd: refuses unless all remaining are healthy voters (a member that is dead itself may leave as long as there
   * is a quorum to take it out: that can only help); moves leadership away if it leads, to one that is not in `leavingLater` if there is one;
   * kubelet stopped and disabled first, or etcd starts again as a cluster of its own; its API server ended while its member answers; removed
   * by id while it runs, so that it counts until it is out; then ended; the rest proved healthy and caught up. A machine that does not answer is left as it is and its member removed all the same (`reached: false`).
   */
  leaveEtcd(input: {
    migration: string;
    master: Host;
    remaining: Host[];
    leavingLater?: string[];
  }): Promise<Evidence & { reached: boolean; movedLeadership: boolean; members: EtcdMember[] }>;
  /**
   * A machine is no node any more: kubelet stopped and disabled, static pods and containers ended, nothing mounted below /var/lib/kubelet
   * (or it refuses: a reset would delete through a mounted volume), `kubeadm reset`, and the proof that neither API server nor etcd listen.
   * A machine that does not answer is left (`reached: false`).
   */
  resetNode(input: { migration: string; host: Host }): Promise<Evidence & { reached: boolean }>;
  /** Deletes one Node by name and proves that it stays away; CronJobs of the platform that are bound to it go with it. */
  deleteNode(input: { node: string; configNamespace: string }): Promise<Evidence>;
  /**
   * What a control host needs, from the old one (or from what the backup phase kept when it does not answer) onto the new: namespace file,
   * /tmp/kubeadm-config.yaml with its own name and address, kubeconfig; the package directory must be there already. Proved by `proton-cli version`.
   */
  moveControl(input: { migration: string; from: Host; to: Host; platform: Plan['platform'] }): Promise<Evidence>;
  /**
   * /tmp/kubeadm-config.yaml on the first of `cs.master`, where the platform's tool makes the keys of every node that joins: one that is there
   * stays, else that of the control host with the name and address of this one, else one from what kubeadm keeps in the cluster.
   */
  giveJoinFile(input: { control: Host; to: Host }): Promise<Evidence>;
  /** Lines of /etc/hosts that still name a removed node, per host; read only, for the report. */
  listLeftovers(input: { hosts: Host[]; removed: Master[] }): Promise<{ host: string; lines: string[] }[]>;
}

export interface MigrationActivities
  extends
    PreflightActivities,
    LeaseActivities,
    KubernetesActivities,
    MasterActivities,
    ImageActivities,
    SecretActivities,
    ProtonCliActivities,
    SystemdActivities,
    ProbeActivities,
    NotifyActivities {}
