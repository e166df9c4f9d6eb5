import type { Client } from '@temporalio/client';
import { isGrpcServiceError } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import pLimit from 'p-limit';
import type { ReportEvent, RunHistory } from './report-events.ts';
import { decodeEvent } from './report-events.ts';
import { searchAttributes } from '../workflows/messages.ts';
import { CliError } from './errors.ts';

/** Everything a report is made from. */
export interface MigrationHistory {
  workflowId: string;
  /** Runs of the migration, oldest first. */
  runs: RunHistory[];
  /** Runs of its copies, in the order in which they began. */
  copies: RunHistory[];
  /** Earlier migrations under the same id that the server still keeps, oldest first. */
  earlier?: EarlierTry[];
  /** What could not be read, for people. */
  gaps: string[];
}

/** Once a migration has ended, another one may begin under its id. */
export interface EarlierTry {
  runId: string;
  startedAt: string;
  endedAt?: string;
  /** `rolled back`, `terminated`, … */
  outcome: string;
}

/** Copies whose histories are read one by one; a migration that waits for weeks has thousands, and their results stand in its own. */
const copiesRead = 400;
const requestsAtOnce = 6;
const visibilityMilliseconds = 5000;

/** Reads the whole history of a migration: all runs of the chain, and those of its copies. `run`: one of the chain; absent: the newest. */
export async function readHistory(client: Client, workflowId: string, run?: string): Promise<MigrationHistory> {
  const gaps: string[] = [];
  const runs = await readChain(client, workflowId, run, gaps);
  const children = runs.flatMap(({ events }) => events.filter((event) => event.kind === 'child-started'));
  // The last ones say how it ended.
  const wanted = children.slice(-copiesRead);
  if (wanted.length < children.length) {
    gaps.push(
      `the histories of the first ${children.length - wanted.length} of ${children.length} rounds of copies were not read; their results are in the report`,
    );
  }
  const limit = pLimit(requestsAtOnce);
  const copies = await Promise.all(
    wanted.map((child) => limit(() => readForward(client, child.workflowId, child.runId, gaps))),
  );
  const earlier = await findEarlier(client, workflowId, runs[0]?.events[0]?.at ?? '').catch(() => []);
  return {
    workflowId,
    runs,
    copies: copies.flat(),
    ...(earlier.length === 0 ? {} : { earlier }),
    gaps: [...new Set(gaps)],
  };
}

/** Visibility may be away or behind: whoever asks does without it. */
async function findEarlier(client: Client, workflowId: string, before: string): Promise<EarlierTry[]> {
  const query = `WorkflowId = '${workflowId.replaceAll("'", "''")}'`;
  const found: EarlierTry[] = [];
  await client.withDeadline(Date.now() + visibilityMilliseconds, async () => {
    for await (const run of client.workflow.list({ query })) {
      // Of a chain the last run stands for all.
      if (run.status.name === 'CONTINUED_AS_NEW' || run.startTime.valueOf() >= Date.parse(before)) continue;
      const last = run.typedSearchAttributes.get(searchAttributes.phase) ?? '';
      const text = run.status.name === 'COMPLETED' ? last : run.status.name.toLowerCase();
      found.push({
        runId: run.runId,
        startedAt: run.startTime.toISOString(),
        ...(run.closeTime === undefined ? {} : { endedAt: run.closeTime.toISOString() }),
        outcome: text.replaceAll(/[-_]/g, ' '),
      });
    }
  });
  return found.toSorted((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt));
}

/** From the first run that is kept to the last. */
async function readChain(
  client: Client,
  workflowId: string,
  named: string | undefined,
  gaps: string[],
): Promise<RunHistory[]> {
  if (named !== undefined) await refuseUnknown(client, workflowId, named);
  const wanted = named ?? (await client.workflow.getHandle(workflowId).describe()).runId;
  const one = await readRun(client, workflowId, wanted);
  const follower = continuedAs(one);
  const runs = [one, ...(follower === undefined ? [] : await readForward(client, workflowId, follower, gaps))];
  let next = continuedFrom(one);
  while (next !== undefined) {
    const runId: string = next;
    let run: RunHistory;
    try {
      run = await readRun(client, workflowId, runId);
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
      gaps.push(`run ${runId} is no longer kept by the server; what it left behind came along in the next one`);
      break;
    }
    runs.unshift(run);
    next = continuedFrom(run);
  }
  return runs;
}

function continuedFrom(run: RunHistory): string | undefined {
  const first = run.events.find(({ kind }) => kind === 'started');
  return first?.kind === 'started' ? first.continuedFrom : undefined;
}

function continuedAs(run: RunHistory): string | undefined {
  const last = run.events.findLast(({ kind }) => kind === 'continued');
  return last?.kind === 'continued' ? last.runId : undefined;
}

async function refuseUnknown(client: Client, workflowId: string, runId: string): Promise<void> {
  try {
    await client.workflow.getHandle(workflowId, runId).describe();
  } catch (error) {
    // What cannot be the id of a run is an invalid argument to the server.
    const isMalformed = [error, (error as Error).cause].some(
      (one) => isGrpcServiceError(one) && [3].includes(one.code),
    );
    if (!(error instanceof WorkflowNotFoundError) && !isMalformed) throw error;
    throw new CliError(
      'notFound',
      `the server keeps no run ${runId} of ${workflowId}`,
      `ferry report ${workflowId} names the earlier tries that it still keeps`,
      error,
    );
  }
}

/** From the run that a migration started on to the last that followed it. */
async function readForward(client: Client, workflowId: string, first: string, gaps: string[]): Promise<RunHistory[]> {
  const runs: RunHistory[] = [];
  let next: string | undefined = first;
  while (next !== undefined) {
    const runId: string = next;
    try {
      const run = await readRun(client, workflowId, runId);
      runs.push(run);
      next = continuedAs(run);
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
      gaps.push(`the history of ${workflowId} is no longer kept by the server; its result is in the report`);
      next = undefined;
    }
  }
  return runs;
}

async function readRun(client: Client, workflowId: string, runId: string): Promise<RunHistory> {
  const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
  const events: ReportEvent[] = [];
  for (const event of history.events ?? []) {
    const decoded = await decodeEvent(client, event);
    if (decoded !== undefined) events.push(decoded);
  }
  return { workflowId, runId, events };
}
