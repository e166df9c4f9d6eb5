import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import pLimit from 'p-limit';
import type { ReportEvent, RunHistory } from './report-events.ts';
import { decodeEvent } from './report-events.ts';

/** Everything a report is made from. */
export interface MigrationHistory {
  workflowId: string;
  /** Runs of the migration, oldest first. */
  runs: RunHistory[];
  /** Runs of its copies, in the order in which they began. */
  copies: RunHistory[];
  /** What could not be read, for people. */
  gaps: string[];
}

/** Copies whose histories are read one by one; a migration that waits for weeks has thousands, and their results stand in its own. */
const copiesRead = 400;
const requestsAtOnce = 6;

/** Reads the whole history of a migration: all runs of the chain, and those of its copies. */
export async function readHistory(client: Client, workflowId: string): Promise<MigrationHistory> {
  const gaps: string[] = [];
  const runs = await readChain(client, workflowId, gaps);
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
  return { workflowId, runs, copies: copies.flat(), gaps: [...new Set(gaps)] };
}

/** From the newest run back to the first. */
async function readChain(client: Client, workflowId: string, gaps: string[]): Promise<RunHistory[]> {
  const { runId: newest } = await client.workflow.getHandle(workflowId).describe();
  const runs: RunHistory[] = [];
  let next: string | undefined = newest;
  while (next !== undefined) {
    const runId: string = next;
    let run: RunHistory;
    try {
      run = await readRun(client, workflowId, runId);
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError) || runs.length === 0) throw error;
      gaps.push(`run ${runId} is no longer kept by the server; what it left behind came along in the next one`);
      break;
    }
    runs.unshift(run);
    const first: ReportEvent | undefined = run.events.find(({ kind }) => kind === 'started');
    next = first?.kind === 'started' ? first.continuedFrom : undefined;
  }
  return runs;
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
      const last: ReportEvent | undefined = run.events.findLast(({ kind }) => kind === 'continued');
      next = last?.kind === 'continued' ? last.runId : undefined;
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
