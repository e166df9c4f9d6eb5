import type { ActivityOptions } from '@temporalio/workflow';
import type { MigrationActivities } from '../activities/contract.ts';
import type { TransferActivities } from '../activities/transfer-contract.ts';
import type { Plan } from '../plan/plan.ts';

export type ActivityName = keyof MigrationActivities;

interface Policy {
  /** One try, from its start to its end. */
  startToClose: `${number}${'s' | 'm' | 'h' | 'd'}`;
  /** Longest silence of a try; absent for calls too short to heartbeat. A lost worker is noticed after this long. */
  heartbeat?: `${number}${'s' | 'm'}`;
  attempts: number;
  /** First pause between tries; doubles up to `longestPause`. */
  firstPause: `${number}s`;
  longestPause: `${number}${'s' | 'm'}`;
  reason: string;
}

/** Failures that another try cannot heal; the phase parks instead. */
const heldForPeople = ['NeedsHuman', 'Permanent'];

/** Every timeout and retry of every activity. Tries that run out park the phase: they never end the migration. */
export const policies: Record<ActivityName | keyof TransferActivities, Policy> = {
  preflight: {
    startToClose: '1h',
    heartbeat: '1m',
    attempts: 3,
    firstPause: '5s',
    longestPause: '30s',
    reason:
      'Reads every host and the API, and measures the directories of a host one after the other, up to two minutes each; a person reads the answer.',
  },
  holdCluster: {
    startToClose: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One guarded write; who lost a race sees at the next try who won it.',
  },
  letClusterGo: {
    startToClose: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One delete after the work is done.',
  },
  listImages: {
    startToClose: '2m',
    attempts: 5,
    firstPause: '2s',
    longestPause: '30s',
    reason: 'Read only, outside the downtime.',
  },
  prewarmHost: {
    startToClose: '6h',
    heartbeat: '2m',
    attempts: 5,
    firstPause: '10s',
    longestPause: '5m',
    reason: 'Moves gigabytes of images outside the downtime; a retry skips the images that are already there.',
  },
  backupSecrets: {
    startToClose: '2m',
    attempts: 5,
    firstPause: '2s',
    longestPause: '30s',
    reason: 'A few small files; writing them again is harmless.',
  },
  recordApplications: {
    startToClose: '2m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Read only, taken before anything is stopped; an API error must never read as an empty record.',
  },
  stopApplications: {
    startToClose: '20m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Polls until no pod runs; a long grace period is normal, silence is not.',
  },
  startApplications: {
    startToClose: '30m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Polls until every recorded workload is ready; applications that migrate data at start take their time.',
  },
  recordVolumes: {
    startToClose: '2m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Read only, inside the downtime: short pauses.',
  },
  uninstallComponent: {
    startToClose: '15m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Polls until release, pods, claims and volumes are gone and names a blocking finalizer itself.',
  },
  awaitClusterHealthy: {
    startToClose: '20m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'The API itself may be away for minutes while nodes come up.',
  },
  provePlacement: {
    startToClose: '20m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Polls until the pods are ready; start-up time grows with the data.',
  },
  repairMariadbMaster: {
    startToClose: '10m',
    heartbeat: '1m',
    attempts: 4,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Restarts one operator at most and waits for one endpoint.',
  },
  listNodes: {
    startToClose: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One read of the API.',
  },
  clearBreadcrumbs: {
    startToClose: '5m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '30s',
    reason: 'Removes annotations after the work is done; nothing waits for it.',
  },
  editSecrets: {
    startToClose: '2m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Guarded by resourceVersion: a conflict heals by reading again.',
  },
  prepareConfig: {
    startToClose: '3m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Reads and edits one document; changes nothing in the cluster.',
  },
  applyConfig: {
    startToClose: '90m',
    heartbeat: '1m',
    attempts: 4,
    firstPause: '60s',
    longestPause: '5m',
    reason:
      'The platform waits up to 10 minutes per chart inside one apply. Tries and first pause come from limits.applyAttempts and limits.applyBackoffSeconds; only Transient failures are tried again.',
  },
  checkApply: {
    startToClose: '5m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Small reads on the control host and of every API server; an API that is not ready heals by waiting.',
  },
  settleApply: {
    startToClose: '90m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Waits for an apply as long as an apply may take; usually none runs.',
  },
  dropPrepared: {
    startToClose: '2m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Deletes a handful of objects by name after the work is done.',
  },
  stopHostServices: {
    startToClose: '10m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'systemd gives each unit 90 seconds; surviving containers come on top.',
  },
  startHostServices: {
    startToClose: '10m',
    heartbeat: '1m',
    attempts: 10,
    firstPause: '5s',
    longestPause: '2m',
    reason: 'Starting what already runs is harmless; going back may find a machine in the middle of its reboot.',
  },
  readBootId: {
    startToClose: '1m',
    attempts: 5,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One read over ssh.',
  },
  rebootHost: {
    startToClose: '30m',
    heartbeat: '2m',
    attempts: 4,
    firstPause: '5s',
    longestPause: '1m',
    reason: 'Servers with much memory take 15 minutes to boot; the boot id keeps a retry from rebooting twice.',
  },
  listMembers: {
    startToClose: '2m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Read only; a leader election takes a second or two.',
  },
  awaitMembers: {
    startToClose: '15m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Polls until a joined member has caught up; one that missed much is sent a whole snapshot.',
  },
  snapshotEtcd: {
    startToClose: '10m',
    heartbeat: '1m',
    attempts: 4,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Writes a file of up to 8 GiB beside the members; each try makes its own.',
  },
  matchTaints: {
    startToClose: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One guarded write of a Node.',
  },
  setBalancers: {
    startToClose: '5m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One small document per host; putting it again is harmless.',
  },
  drainNode: {
    startToClose: '15m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Evictions wait for grace periods (prometheus: 300 s) and for disruption budgets.',
  },
  handOverLead: {
    startToClose: '3m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason:
      'One command to the leader, then a look; without it a reboot of the leader stops all writes for an election.',
  },
  leaveEtcd: {
    startToClose: '20m',
    heartbeat: '1m',
    attempts: 8,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Every step looks first, so a try after a lost connection goes on where the last one stopped.',
  },
  resetNode: {
    startToClose: '20m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '5s',
    longestPause: '30s',
    reason:
      'Ending all containers of a machine takes their grace periods; a second reset of a reset machine does nothing.',
  },
  deleteNode: {
    startToClose: '5m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'One delete by name, then a look whether a kubelet brings it back.',
  },
  moveControl: {
    startToClose: '5m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Files of a few kilobytes from one master to another; the same ones may be written again.',
  },
  giveJoinFile: {
    startToClose: '5m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'One file of a few kilobytes; one that is there already stays.',
  },
  listLeftovers: {
    startToClose: '2m',
    attempts: 4,
    firstPause: '2s',
    longestPause: '15s',
    reason: 'Read only, for the report.',
  },
  takeProbes: {
    startToClose: '10m',
    heartbeat: '1m',
    attempts: 5,
    firstPause: '5s',
    longestPause: '30s',
    reason: 'Small reads of every component.',
  },
  notify: {
    startToClose: '15m',
    heartbeat: '1m',
    attempts: 4,
    firstPause: '5s',
    longestPause: '2m',
    reason:
      'Nobody waits for it. One try asks each target up to eight times over six minutes, with the last message four times in half a minute; another try comes only when a worker was lost, and leaves out whom the last one reached.',
  },
  prepareTransfer: {
    startToClose: '24h',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '30s',
    reason:
      'Looks at two machines and measures the wire between them and every file of the tree, which takes minutes or, with tens of millions of files, hours; safe to do again.',
  },
  runPass: {
    startToClose: '7d',
    heartbeat: '1m',
    attempts: 20,
    firstPause: '2s',
    longestPause: '1m',
    reason:
      'Terabytes behind a bandwidth limit take days. Silence of a minute is a lost worker; the next try takes up the job that runs on.',
  },
  proveQuiet: {
    startToClose: '2h',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '30s',
    reason:
      'Looks for whoever writes to the source, half an hour at most on a machine that is slow to answer; read only.',
  },
  verifyTransfer: {
    startToClose: '24h',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '30s',
    reason: 'Reads both trees once, which takes hours for terabytes.',
  },
  finishTransfer: {
    startToClose: '30m',
    heartbeat: '1m',
    attempts: 6,
    firstPause: '2s',
    longestPause: '30s',
    reason: 'Takes a key away and ends what still runs; nothing is left to take away the second time.',
  },
};

/** How long a summary may be on the timeline, bytes. */
export const summaryBytes = 200;

/** Options of the calls of an activity, as its row says. */
export function optionsOf(name: keyof typeof policies): ActivityOptions & Required<Pick<ActivityOptions, 'retry'>> {
  const row = policies[name];
  return {
    startToCloseTimeout: row.startToClose,
    ...(row.heartbeat === undefined ? {} : { heartbeatTimeout: row.heartbeat }),
    // An activity that was asked to stop reports how it ended: undo starts from a world at rest.
    cancellationType: 'WAIT_CANCELLATION_COMPLETED',
    retry: {
      maximumAttempts: row.attempts,
      initialInterval: row.firstPause,
      maximumInterval: row.longestPause,
      backoffCoefficient: 2,
      nonRetryableErrorTypes: heldForPeople,
    },
  };
}

/** Options of one call in a migration: its row, the plan's say about applies, and the label of its bar on the timeline. */
export function activityOptions(name: ActivityName, plan: Plan, summary: string): ActivityOptions {
  const options = { ...optionsOf(name), summary: clip(summary, summaryBytes) };
  if (name !== 'applyConfig') {
    return options;
  }
  const pause = plan.limits.applyBackoffSeconds * 1000;
  return {
    ...options,
    retry: {
      ...options.retry,
      maximumAttempts: plan.limits.applyAttempts,
      initialInterval: pause,
      maximumInterval: Math.max(pause, 300_000),
      backoffCoefficient: 1,
    },
  };
}

/** Shortens text to so many bytes of UTF-8 without cutting a character. */
export function clip(text: string, bytes: number): string {
  let length = 0;
  let kept = '';
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    length += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    if (length > bytes) {
      return kept;
    }
    kept += character;
  }
  return kept;
}

/** Components uninstalled at the same time: the API and Helm stay responsive, one slow finalizer does not hold up the rest. */
export const uninstallsAtOnce = 4;

/** Hosts that receive images at the same time. */
export const prewarmsAtOnce = 3;

/** Events after which the history is started anew, at the next moment when nothing runs. */
export const historyEvents = 2_000;

/** How often people are reminded of a gate that waits for them. */
export const gateReminderSeconds = 24 * 3600;

/** Decisions kept in state and status. */
export const decisionsKept = 300;

/** Passes kept per transfer; the model of convergence looks at fewer. */
export const passesKept = 20;
