import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { MetricGauge, MetricMeter, MetricTags } from '@temporalio/common';
import { WorkflowNotFoundError } from '@temporalio/common';
import type { CopyActivity } from './client/migrations.ts';
import { clockAt, isBrokenOff, queryStatus, readProgress } from './client/migrations.ts';
import type { MigrationStatus, PassSummary, TransferStatus } from './workflows/messages.ts';
import type { migrateNodes } from './workflows/migrate-nodes.ts';

/*
 * What the worker tells Prometheus of the migrations beside the SDK's own metrics. One more view of the status, as the current details and
 * the report are: nothing is counted on the way, so a worker that starts in the middle tells the same, and workflows stay as they are.
 */

/** Every metric, and what it says. */
export const metrics = {
  ferry_migration_running: 'Whether the migration is at work (1) or has ended (0)',
  ferry_migration_broken_off:
    'Whether the workflow was terminated, failed or timed out: the platform stands where it was then',
  ferry_migration_state: '1 for the state that the migration is in, by state',
  ferry_migration_phase: '1 for the phase that the migration is in, by phase',
  ferry_migration_blocked: 'Whether the migration needs a person to go on',
  ferry_migration_blocked_seconds: 'For how long it has needed one',
  ferry_migration_paused: 'Whether people paused the migration',
  ferry_migration_point_of_no_return: 'Whether the way back is closed',
  ferry_migration_status_timestamp_seconds: 'When the migration last answered for its status',
  ferry_phase_seconds: 'How long a phase took, or has taken so far',
  ferry_gate_awaiting: 'Whether a gate waits for people',
  ferry_gate_wait_seconds: 'How long a gate waited for people, or has waited so far',
  ferry_downtime_running: 'Whether applications are stopped',
  ferry_downtime_seconds: 'Downtime until now',
  ferry_downtime_budget_seconds: 'Downtime that the plan allows',
  ferry_downtime_projected_seconds: 'Downtime that is projected',
  ferry_downtime_projected_error_seconds: 'Half the width of the error band of the projection',
  ferry_transfers: 'Transfers, by state',
  ferry_transfer_size_bytes: 'Size of the tree that a transfer moves',
  ferry_transfer_pass: 'Pass that a transfer is in, or the last one it did',
  ferry_transfer_pass_bytes: 'Bytes of the pass that are done',
  ferry_transfer_pass_expected_bytes: 'Bytes of the pass in all, as far as they are known',
  ferry_transfer_moved_bytes: 'Bytes that the finished passes moved',
  ferry_transfer_bytes_per_second: 'Rate of the pass at work',
  ferry_transfer_dirty_bytes_per_second: 'Rate at which the source changes, from the last two passes',
  ferry_transfer_projected_final_seconds: 'Projected time of the last delta',
  ferry_transfer_attempt: 'Which try the copy is at; more than 1 is a retry',
} as const;
export type MetricName = keyof typeof metrics;

export interface Sample {
  name: MetricName;
  tags: MetricTags;
  value: number;
}

const states: Record<MigrationStatus['state'], true> = {
  running: true,
  'awaiting-gate': true,
  paused: true,
  blocked: true,
  'rolling-back': true,
  'rolled-back': true,
  completed: true,
};
const transferStates: Record<TransferStatus['state'], true> = {
  pending: true,
  copying: true,
  fresh: true,
  final: true,
  verified: true,
  failed: true,
};

/** Whether a migration is at work, came to its own end, or was ended from outside. */
export type Course = 'running' | 'ended' | 'broken-off';

/**
 * What is told of a migration at a moment (`now`: milliseconds since the epoch). One that is over waits for nobody and moves nothing; where
 * it broke off, the applications that it stopped are stopped all the same.
 */
export function samplesOf(
  status: MigrationStatus,
  progress: ReadonlyMap<string, CopyActivity>,
  now: number,
  course: Course,
): Sample[] {
  const samples: Sample[] = [];
  const tell = (name: MetricName, value: number | boolean, tags: MetricTags = {}): void => {
    samples.push({ name, tags: { cluster: status.cluster, ...tags }, value: Number(value) });
  };
  const live = course === 'running';
  const isBrokenOff = course === 'broken-off';
  const { blocked, downtime } = status;
  tell('ferry_migration_running', live);
  tell('ferry_migration_broken_off', isBrokenOff);
  for (const state of Object.keys(states))
    tell('ferry_migration_state', !isBrokenOff && state === status.state, { state });
  tell('ferry_migration_blocked', live && blocked !== undefined);
  tell('ferry_migration_blocked_seconds', live && blocked !== undefined ? secondsBetween(blocked.since, now) : 0);
  tell('ferry_migration_paused', live && status.paused !== undefined);
  tell('ferry_migration_point_of_no_return', status.pointOfNoReturn);
  tell('ferry_migration_status_timestamp_seconds', now / 1000);
  for (const { name, startedAt, endedAt } of status.phases) {
    tell('ferry_migration_phase', live && name === status.phase, { phase: name });
    if (startedAt !== undefined) tell('ferry_phase_seconds', secondsBetween(startedAt, now, endedAt), { phase: name });
  }
  for (const { name, openedAt, decidedAt } of status.gates) {
    const tags = { gate: name };
    tell('ferry_gate_awaiting', live && status.awaitingGate === name, tags);
    // An abort leaves a gate undecided: its wait is over, and stays what was told last.
    if (openedAt !== undefined && decidedAt === undefined && status.awaitingGate !== name) continue;
    tell('ferry_gate_wait_seconds', openedAt === undefined ? 0 : secondsBetween(openedAt, now, decidedAt), tags);
  }
  const isDown = downtime.startedAt !== undefined && downtime.endedAt === undefined;
  tell('ferry_downtime_running', course !== 'ended' && isDown);
  tell('ferry_downtime_seconds', downtime.spentSeconds);
  tell('ferry_downtime_budget_seconds', downtime.budgetSeconds);
  tell('ferry_downtime_projected_seconds', downtime.projectedSeconds);
  tell('ferry_downtime_projected_error_seconds', downtime.projectedErrorSeconds);
  for (const state of Object.keys(transferStates)) {
    tell('ferry_transfers', status.transfers.filter((transfer) => transfer.state === state).length, { state });
  }
  for (const transfer of status.transfers) {
    tellTransfer(transfer, live ? progress.get(transfer.id) : undefined, (name, value) =>
      tell(name, value, { transfer: transfer.id }),
    );
  }
  return samples;
}

function tellTransfer(
  { passes, projectedFinalSeconds }: TransferStatus,
  activity: CopyActivity | undefined,
  tell: (name: MetricName, value: number) => void,
): void {
  const last = passes.at(-1);
  const running = activity?.progress;
  tell('ferry_transfer_size_bytes', last?.totalBytes ?? running?.total ?? 0);
  tell('ferry_transfer_pass', running?.pass ?? last?.pass ?? 0);
  tell('ferry_transfer_pass_bytes', running?.bytes ?? 0);
  tell('ferry_transfer_pass_expected_bytes', running?.total ?? 0);
  tell(
    'ferry_transfer_moved_bytes',
    passes.reduce((sum, { literalBytes }) => sum + literalBytes, 0),
  );
  tell('ferry_transfer_bytes_per_second', running?.bytesPerSecond ?? 0);
  tell('ferry_transfer_dirty_bytes_per_second', dirtyRate(passes));
  tell('ferry_transfer_projected_final_seconds', projectedFinalSeconds ?? 0);
  tell('ferry_transfer_attempt', activity?.attempt ?? 0);
}

/** A pass moves what got dirty since the one before it began. */
function dirtyRate(passes: readonly PassSummary[]): number {
  const [before, last] = passes.slice(-2);
  if (before === undefined || last === undefined) return 0;
  const seconds = secondsBetween(before.startedAt, Date.parse(last.startedAt));
  return seconds === 0 ? 0 : last.literalBytes / seconds;
}

function secondsBetween(from: string, now: number, until?: string): number {
  return Math.max(0, ((until === undefined ? now : Date.parse(until)) - Date.parse(from)) / 1000);
}

/** The endpoint for Prometheus, as the SDK's runtime takes it. */
export function prometheusAt(address: string): {
  prometheus: { bindAddress: string; countersTotalSuffix: true; useSecondsForDurations: true };
} {
  return { prometheus: { bindAddress: address, countersTotalSuffix: true, useSecondsForDurations: true } };
}

export interface MetricsOptions {
  client: Client;
  /** The runtime's meter: what it records is served beside the SDK's own metrics. */
  meter: MetricMeter;
  taskQueue: string;
  /** Milliseconds between two looks; default 10 000. */
  interval?: number;
  /** Called when the server did not answer, once until it does again. */
  onTrouble: (message: string) => void;
  signal: AbortSignal;
}

/** Looks at the migrations of a task queue until the signal, and tells what it sees. Its failures harm nothing but the figures. */
export async function serveMetrics(options: MetricsOptions): Promise<void> {
  const { signal, interval = 10_000 } = options;
  const look = createLook(options);
  let inTrouble = false;
  while (!signal.aborted) {
    try {
      await look();
      inTrouble = false;
    } catch (error) {
      // Telling the same trouble at every look would bury the rest of the log.
      if (!inTrouble) options.onTrouble(error instanceof Error ? error.message : String(error));
      inTrouble = true;
    }
    await sleep(interval, undefined, { signal }).catch(() => undefined);
  }
}

function createLook({ client, meter, taskQueue }: MetricsOptions): () => Promise<void> {
  const gauges = new Map<string, MetricGauge>(
    Object.entries(metrics).map(([name, description]) => [
      name,
      meter.createGauge(name, 'float', undefined, description),
    ]),
  );
  /** Last status of the migrations that ran at the last look, and of those that broke off since this worker began. */
  const known = new Map<string, MigrationStatus>();
  const query = `WorkflowType = 'migrateNodes' AND TaskQueue = '${taskQueue}' AND ExecutionStatus = 'Running'`;

  function record(status: MigrationStatus, progress: ReadonlyMap<string, CopyActivity>, course: Course): void {
    for (const { name, tags, value } of samplesOf(status, progress, Date.now(), course))
      gauges.get(name)?.set(value, tags);
  }
  const statusOf = (workflowId: string): Promise<MigrationStatus | undefined> =>
    queryStatus(client, client.workflow.getHandle<typeof migrateNodes>(workflowId));
  /** Undefined: people have deleted it. */
  const executionOf = (workflowId: string): Promise<string | undefined> =>
    client.workflow
      .getHandle(workflowId)
      .describe()
      .then(
        ({ status }) => status.name,
        (error: unknown) => {
          if (error instanceof WorkflowNotFoundError) return undefined;
          throw error;
        },
      );

  return async () => {
    const running = new Set<string>();
    for await (const { workflowId } of client.workflow.list({ query })) running.add(workflowId);
    for (const workflowId of running) {
      const status = await statusOf(workflowId);
      if (status === undefined) continue;
      known.set(workflowId, status);
      record(status, await readProgress(client, status), 'running');
    }
    for (const [workflowId, last] of known) {
      if (running.has(workflowId)) continue;
      const execution = await executionOf(workflowId);
      // Visibility is a little behind.
      if (execution === 'RUNNING') continue;
      const status = (await statusOf(workflowId).catch(() => undefined)) ?? clockAt(last, Date.now());
      const course = isBrokenOff(execution, status.state) ? 'broken-off' : 'ended';
      record(status, new Map(), course);
      // A gauge keeps its value: one that came to its end is told of this one last time, so that it is not seen waiting for ever.
      if (course === 'ended') known.delete(workflowId);
    }
  };
}
