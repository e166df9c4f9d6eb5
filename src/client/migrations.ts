import type { Client, WorkflowHandle } from '@temporalio/client';
import { QueryNotRegisteredError, QueryRejectedError, isGrpcServiceError } from '@temporalio/client';
import type { Payload } from '@temporalio/common';
import { WorkflowNotFoundError } from '@temporalio/common';
import { z } from 'zod';
import { growthBetween } from '../workflows/downtime.ts';
import type { MigrationStatus } from '../workflows/messages.ts';
import { searchAttributes, statusQuery } from '../workflows/messages.ts';
import type { migrateNodes } from '../workflows/migrate-nodes.ts';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { CliError } from './errors.ts';
import { decodePayload, failureMessage } from './payloads.ts';

export type MigrationHandle = WorkflowHandle<typeof migrateNodes>;

const byType = "WorkflowType = 'migrateNodes'";

/**
 * The migration meant by a cluster's name or a workflow id; without either the only one that runs, or for looking back (`ended`) the
 * one that ended last.
 */
export async function findMigration(
  client: Client,
  named: string | undefined,
  ended = false,
): Promise<MigrationHandle> {
  if (named !== undefined) return existing(client, named);
  const running = await runningMigrations(client);
  const [only] = running;
  if (only !== undefined && running.length === 1) return client.workflow.getHandle<typeof migrateNodes>(only);
  if (running.length > 1) {
    const [first = ''] = running.toSorted();
    throw new CliError(
      'usage',
      `several migrations run: ${running.toSorted().join(', ')}; nothing was done`,
      `the same command with the one you mean, such as ${first}`,
    );
  }
  let last: { workflowId: string; closeTime?: Date | undefined } | undefined;
  for await (const closed of client.workflow.list({ query: `${byType} AND ExecutionStatus != 'Running'` })) {
    if (last === undefined || (closed.closeTime ?? 0) > (last.closeTime ?? 0)) last = closed;
  }
  if (last !== undefined && ended) return client.workflow.getHandle<typeof migrateNodes>(last.workflowId);
  throw new CliError(
    'notFound',
    last === undefined ? 'there is no migration yet' : `no migration runs; the last one was ${last.workflowId}`,
    last === undefined ? 'ferry start plan.yaml' : `ferry report ${last.workflowId}`,
  );
}

/**
 * A migration that the server knows. Its exact id comes first: whoever starts with `temporal workflow start` may choose any or none, and
 * the commands that are printed name the id, which must never mean another migration.
 */
async function existing(client: Client, named: string): Promise<MigrationHandle> {
  const ids = [named, `migrate-${named}`].filter((id) => id !== '');
  for (const id of ids) {
    const handle = client.workflow.getHandle<typeof migrateNodes>(id);
    if (await isMigration(handle)) return handle;
  }
  const [one, ...more] = (await runningMigrations(client)).toSorted();
  const running = one === undefined ? 'none runs' : `those that run: ${[one, ...more].join(', ')}`;
  throw new CliError(
    'notFound',
    `there is no migration ${ids.join(' or ')} in namespace ${client.options.namespace}; ${running}`,
    one === undefined ? 'ferry start plan.yaml' : `the same command with the one you mean, such as ${one}`,
  );
}

/** Other workflows may have the name of a cluster as their id. */
async function isMigration(handle: MigrationHandle): Promise<boolean> {
  try {
    return (await handle.describe()).type === 'migrateNodes';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** Workflow ids of the migrations that run. */
export async function runningMigrations(client: Client): Promise<string[]> {
  const running: string[] = [];
  for await (const { workflowId } of client.workflow.list({ query: `${byType} AND ExecutionStatus = 'Running'` })) {
    running.push(workflowId);
  }
  return running;
}

/** For the completion of shells: somebody waits with a finger on the key. */
export async function printMigrations(options: GlobalOptions): Promise<void> {
  const ids = await withClient(options, (client) =>
    client.withDeadline(Date.now() + 2000, () => runningMigrations(client)),
  );
  process.stdout.write(ids.map((id) => `${id}\n`).join(''));
}

/** How a migration looks to the server alone, when no worker answers. */
export interface ServerView {
  workflowId: string;
  runId: string;
  /** E.g. RUNNING, COMPLETED, TERMINATED. */
  execution: string;
  phase?: string;
  awaitingGate?: string;
  downtimeStart?: string;
  /** Why a worker that is there cannot go on, e.g. one of another version. */
  workerFails?: string;
  /** What was tried and failed, and is tried again; absent: nothing. */
  retries?: Retry[];
}

/** An activity that is not at its first try. */
export interface Retry {
  activity: string;
  attempt: number;
  failure: string;
}

export async function describeMigration(handle: MigrationHandle): Promise<ServerView> {
  const description = await handle.describe();
  const attributes = description.typedSearchAttributes;
  const phase = attributes.get(searchAttributes.phase);
  const awaitingGate = attributes.get(searchAttributes.awaitingGate);
  const downtimeStart = attributes.get(searchAttributes.downtimeStart)?.toISOString();
  // One try is an ordinary one.
  const isFailing = (description.raw.pendingWorkflowTask?.attempt ?? 0) > 1;
  const workerFails = isFailing ? await lastTaskFailure(handle) : undefined;
  const retries = await readRetries(handle, description.raw.pendingActivities);
  return {
    workflowId: description.workflowId,
    runId: description.runId,
    execution: description.status.name,
    ...(phase === undefined ? {} : { phase }),
    ...(awaitingGate === undefined ? {} : { awaitingGate }),
    ...(downtimeStart === undefined ? {} : { downtimeStart }),
    ...(workerFails === undefined ? {} : { workerFails }),
    ...(retries.length === 0 ? {} : { retries }),
  };
}

type Pending = Awaited<ReturnType<MigrationHandle['describe']>>['raw']['pendingActivities'];

async function readRetries({ client }: MigrationHandle, pending: Pending): Promise<Retry[]> {
  const failed = (pending ?? []).flatMap(({ activityType, attempt, lastFailure }) =>
    (attempt ?? 1) > 1 && lastFailure
      ? [{ activity: activityType?.name ?? 'an activity', attempt: attempt ?? 1, lastFailure }]
      : [],
  );
  return Promise.all(
    failed.map(async ({ lastFailure, ...retry }) => ({ ...retry, failure: await failureMessage(client, lastFailure) })),
  );
}

/** Of a task that is tried again and again the server keeps the first failure, at the end of the history. */
async function lastTaskFailure({ workflowId, client }: MigrationHandle): Promise<string | undefined> {
  const { history } = await client.workflowService.getWorkflowExecutionHistoryReverse({
    namespace: client.options.namespace,
    execution: { workflowId },
    maximumPageSize: 20,
  });
  for (const event of history?.events ?? []) {
    if (event.workflowTaskCompletedEventAttributes) return undefined;
    const failure = event.workflowTaskFailedEventAttributes?.failure;
    if (failure) return failureMessage(client, failure);
  }
  return undefined;
}

const ended: ReadonlySet<string> = new Set(['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'TIMED_OUT']);

/** Nothing will happen any more, with or without a worker. */
export function isEnded(execution: string | undefined): boolean {
  return execution !== undefined && ended.has(execution);
}

/**
 * Ended by something else than itself: terminated, failed, timed out. Its last status is then no state that lasts, but the moment in which
 * it broke off.
 */
export function isBrokenOff(execution: string | undefined, state: MigrationStatus['state'] | undefined): boolean {
  return isEnded(execution) && execution !== 'COMPLETED' && state !== 'completed' && state !== 'rolled-back';
}

/**
 * The status of a migration in whatever state its workflow is. A completed one left its last word with the server, which needs no worker
 * to tell it.
 */
export async function readStatus(
  client: Client,
  handle: MigrationHandle,
  execution: string,
  timeout?: number,
): Promise<MigrationStatus | undefined> {
  if (execution === 'COMPLETED') return (await handle.result()).status;
  return queryStatus(client, handle, timeout);
}

/** The status as the workflow tells it; undefined when the migration exists but no worker answers within the time (ms). */
export async function queryStatus(
  client: Client,
  handle: MigrationHandle,
  timeout = 5000,
): Promise<MigrationStatus | undefined> {
  try {
    return clockAt(await client.withDeadline(Date.now() + timeout, () => handle.query(statusQuery)), Date.now());
  } catch (error) {
    if (isSilence(error)) return undefined;
    throw error;
  }
}

/**
 * The status with the clock of the downtime at a moment (milliseconds since the epoch). A workflow knows the time of the last thing that
 * happened in it; between two things, which may be many minutes, the clock runs on all the same. Before it starts the copies grow old:
 * paused at its gate, a migration freshens none.
 */
export function clockAt(status: MigrationStatus, now: number): MigrationStatus {
  const { startedAt, endedAt, asOf, spentSeconds, projectedSeconds } = status.downtime;
  if (endedAt !== undefined || asOf === undefined) return status;
  if (startedAt === undefined) return olderAt(status, Date.parse(asOf), now);
  const since = Math.max(0, Math.round((now - Date.parse(asOf)) / 1000));
  const spent = spentSeconds + since;
  return {
    ...status,
    downtime: {
      ...status.downtime,
      spentSeconds: spent,
      projectedSeconds: Math.max(projectedSeconds, spent),
      asOf: new Date(now).toISOString(),
    },
  };
}

function olderAt(status: MigrationStatus, asOf: number, now: number): MigrationStatus {
  const { downtime, transfers } = status;
  // Who goes back before anything was stopped has no downtime.
  if (downtime.projectedSeconds === 0) return status;
  const { seconds, errorSeconds } = growthBetween(transfers, asOf, now);
  return {
    ...status,
    downtime: {
      ...downtime,
      projectedSeconds: downtime.projectedSeconds + Math.round(seconds),
      projectedErrorSeconds: downtime.projectedErrorSeconds + Math.round(errorSeconds),
      asOf: new Date(now).toISOString(),
    },
  };
}

/** No worker, a worker that is away for the moment, or one that does not know the workflow yet. */
function isSilence(error: unknown): boolean {
  if (error instanceof QueryNotRegisteredError || error instanceof QueryRejectedError) return true;
  const inner = [error, (error as Error).cause].find((candidate) => isGrpcServiceError(candidate));
  // deadline exceeded, failed precondition (no poller), unavailable while the server itself is there is told apart by describe
  return inner !== undefined && isGrpcServiceError(inner) && [1, 4, 9].includes(inner.code);
}

const progressSchema = z.object({
  pass: z.number(),
  step: z.string(),
  bytes: z.number(),
  total: z.number(),
  files: z.number(),
  bytesPerSecond: z.number(),
  etaSeconds: z.number().optional(),
  currentFile: z.string().optional(),
});
/** What a running copy said last. */
export type Progress = z.infer<typeof progressSchema>;

export interface CopyActivity {
  progress?: Progress;
  attempt: number;
  /** Message of the last failed try. */
  lastFailure?: string;
}

/** What the copies of a migration are doing now, from the heartbeats that the server holds; by transfer id. */
export async function readProgress(client: Client, status: MigrationStatus): Promise<Map<string, CopyActivity>> {
  const found = new Map<string, CopyActivity>();
  const active = status.transfers.filter(({ state }) => state === 'copying' || state === 'final');
  await Promise.all(
    active.map(async ({ id, workflowId }) => {
      const activity = await readCopy(client, workflowId).catch(() => undefined);
      if (activity !== undefined) found.set(id, activity);
    }),
  );
  return found;
}

/** What one copy is doing now, as its heartbeat says; undefined between two activities. */
export async function readCopy(client: Client, workflowId: string): Promise<CopyActivity | undefined> {
  const { pendingActivities } = await client.workflowService.describeWorkflowExecution({
    namespace: client.options.namespace,
    execution: { workflowId },
  });
  const [pending] = pendingActivities;
  if (pending === undefined) return undefined;
  const progress = await decodeProgress(client, pending.heartbeatDetails?.payloads ?? []);
  const lastFailure = pending.lastFailure ? await failureMessage(client, pending.lastFailure) : '';
  return {
    attempt: pending.attempt ?? 1,
    ...(progress === undefined ? {} : { progress }),
    ...(lastFailure === '' ? {} : { lastFailure }),
  };
}

async function decodeProgress(client: Client, payloads: readonly Payload[]): Promise<Progress | undefined> {
  const [first] = payloads;
  if (first === undefined) return undefined;
  const parsed = progressSchema.safeParse(await decodePayload(client, first));
  return parsed.success ? parsed.data : undefined;
}
