import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import type { Client } from '@temporalio/client';
import { createLogUpdate } from 'log-update';
import type { MigrationStatus } from '../workflows/messages.ts';
import { pc } from './colors.ts';
import type { GlobalOptions } from './connection.ts';
import { connectClient, temporalSettings } from './connection.ts';
import { exitCodes } from './errors.ts';
import { explain } from './explain.ts';
import type { CopyActivity, MigrationHandle, Retry } from './migrations.ts';
import {
  clockAt,
  describeMigration,
  findMigration,
  isBrokenOff,
  isEnded,
  readProgress,
  readStatus,
} from './migrations.ts';
import { clockTime, seconds, terminalSize } from './output.ts';
import { brokenOff, missingWorker } from './status.ts';
import { changesBetween, describeRetry, renderStatus, wrapColumns } from './view.ts';

interface WatchOptions extends GlobalOptions {
  interval: number;
  plain?: boolean;
}

/** One look: what was answered, when, and whether somebody is missing. */
export interface Look {
  status?: MigrationStatus;
  answeredAt: number;
  progress: Map<string, CopyActivity>;
  retries?: Retry[];
  /** Why this look is an old one. */
  trouble?: string;
  /** E.g. RUNNING; undefined while the server does not answer. */
  execution?: string;
}

/** `ferry watch`. */
export async function watchMigration(named: string | undefined, options: WatchOptions): Promise<void> {
  const client = await connectClient(temporalSettings(options));
  try {
    const handle = await findMigration(client, named);
    process.exitCode = await watch(client, handle, options);
  } finally {
    await client.connection.close();
  }
}

/** Follows a migration to its end; answers the exit code that says how it ended. */
export async function watch(client: Client, handle: MigrationHandle, options: WatchOptions): Promise<number> {
  const interval = Math.max(0.2, options.interval) * 1000;
  const screen =
    process.stdout.isTTY && options.plain !== true ? createScreen(handle.workflowId) : createLog(handle.workflowId);
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  const isStopped = (): boolean => stop.signal.aborted;
  // Kept to the end: what restores the cursor ends the process when nobody else listens any more.
  process.on('SIGINT', interrupt);
  let look: Look = { answeredAt: 0, progress: new Map() };
  try {
    while (!isStopped()) {
      look = await lookAgain(client, handle, look, stop.signal);
      if (isStopped()) break;
      screen.show(look);
      const code = endOf(look);
      if (code !== undefined) {
        screen.end();
        process.stdout.write(`\n${ending(look, handle.workflowId)}\n`);
        return code;
      }
      await sleep(interval, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  } finally {
    process.off('SIGINT', interrupt);
    screen.end();
  }
  process.stdout.write(`\nStopped watching. The migration goes on.\nLook again: ferry watch ${handle.workflowId}\n`);
  return exitCodes.interrupted.code;
}

/** The server itself answers in milliseconds; a worker has the five seconds of a query. */
const serverTime = 4000;

async function lookAgain(client: Client, handle: MigrationHandle, last: Look, stop: AbortSignal): Promise<Look> {
  const ask = <T>(question: () => Promise<T>): Promise<T> =>
    client.withAbortSignal(stop, () => client.withDeadline(Date.now() + serverTime, question));
  try {
    const server = await ask(() => describeMigration(handle));
    const { execution } = server;
    const status = await ask(() => readStatus(client, handle, execution));
    if (status === undefined) {
      const trouble = isEnded(execution) ? 'The migration has ended' : missingWorker(server);
      return { ...last, execution, trouble };
    }
    const progress = await ask(() => readProgress(client, status));
    return {
      ...{ status, execution, progress, answeredAt: Date.now() },
      ...(server.retries === undefined ? {} : { retries: server.retries }),
    };
  } catch (error) {
    // Given up by Ctrl-C, whatever the clients make of that.
    if (stop.aborted) return last;
    const known = explain(error);
    if (known?.reason !== 'unreachable') throw error;
    const address = client.connection instanceof Connection ? ` at ${client.connection.options.address}` : '';
    return { ...last, trouble: `Temporal does not answer${address}; trying again` };
  }
}

export function endOf({ status, execution, trouble }: Look): number | undefined {
  if (trouble === undefined && status?.state === 'completed') return exitCodes.ok.code;
  if (trouble === undefined && status?.state === 'rolled-back') return exitCodes.rolledBack.code;
  if (!isEnded(execution)) return undefined;
  return exitCodes.failure.code;
}

function ending({ status, execution }: Look, workflowId: string): string {
  const report = `Report: ferry report ${workflowId} -o html --output-file report.html`;
  if (status?.state === 'completed') {
    const { spentSeconds, budgetSeconds } = status.downtime;
    return `${pc.green('Completed.')} Downtime ${seconds(spentSeconds)} of a budget of ${seconds(budgetSeconds)}.\n${report}`;
  }
  if (status?.state === 'rolled-back')
    return `${pc.yellow('Rolled back:')} the platform is on its old machines.\n${report}`;
  return `${pc.red(`The workflow is ${execution?.toLowerCase() ?? 'gone'}.`)} See it: temporal workflow describe -w ${workflowId}\n${brokenOff}\n${report}`;
}

interface Screen {
  show(look: Look): void;
  end(): void;
}

function createScreen(workflowId: string): Screen {
  const update = createLogUpdate(process.stdout);
  let isOver = false;
  return {
    show(look) {
      update(screenLines(look, workflowId, terminalSize()).join('\n'));
    },
    end() {
      if (isOver) return;
      isOver = true;
      update.done();
    },
  };
}

/** Everything on the screen; one row stays free for the cursor. */
export function screenLines(
  look: Look,
  workflowId: string,
  { columns, rows }: { columns: number; rows: number },
): string[] {
  const shown = look.answeredAt === 0 ? 'nothing yet' : clockTime(look.answeredAt);
  const trouble =
    look.trouble === undefined
      ? []
      : ['', ...wrapColumns(`${look.trouble} (shown: ${shown})`, columns).map((line) => pc.yellow(line))];
  // One line also where there is little room.
  const leave =
    columns < 50 ? 'Ctrl-C leaves; the migration goes on.' : 'Ctrl-C stops watching; the migration goes on.';
  // The last picture is followed by how it ended.
  const foot = [...trouble, ...(isEnded(look.execution) ? [] : ['', pc.dim(leave)])];
  if (look.status === undefined) return ['waiting for the first answer', ...foot];
  const isBroken = isBrokenOff(look.execution, look.status.state);
  const lines = renderStatus(clockAt(look.status, Date.now()), {
    workflowId,
    ...(isBroken ? { brokenOff: { execution: look.execution ?? '' } } : {}),
    now: Date.now(),
    columns,
    rows: rows - 1 - foot.length,
    progress: look.progress,
    ...(look.retries === undefined ? {} : { retries: look.retries }),
  });
  return [...lines, ...foot];
}

function createLog(workflowId: string): Screen {
  let before: MigrationStatus | undefined;
  let trouble: string | undefined;
  let retries: readonly string[] = [];
  const say = (line: string, at = new Date().toISOString()): void => {
    process.stdout.write(`${at} ${line}\n`);
  };
  return {
    show(look) {
      if (look.trouble !== trouble && look.trouble !== undefined) say(look.trouble);
      if (look.trouble === undefined && trouble !== undefined) say('answers again');
      trouble = look.trouble;
      const tried = (look.retries ?? []).map(describeRetry);
      for (const line of tried) if (!retries.includes(line)) say(line);
      retries = tried;
      if (look.status === undefined || look.status === before) return;
      const isBroken = isBrokenOff(look.execution, look.status.state);
      for (const { text, at } of changesBetween(before, look.status, workflowId, isBroken)) say(text, at);
      before = look.status;
    },
    end: () => undefined,
  };
}
