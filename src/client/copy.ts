import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, WorkflowHandle } from '@temporalio/client';
import { WorkflowFailedError } from '@temporalio/client';
import { createLogUpdate } from 'log-update';
import { z } from 'zod';
import { lookUpHostKeys } from '../hosts/known-hosts.ts';
import type { KnownHost } from '../hosts/known-hosts.ts';
import type { Host } from '../plan/plan.ts';
import { absolutePath, dnsLabel } from '../plan/plan.ts';
import type { ReplicateRequest } from '../plan/replicate.ts';
import { replicateInputSchema } from '../plan/replicate.ts';
import type { replicateDirectory } from '../workflows/replicate-directory.ts';
import { taskQueue as defaultTaskQueue } from '../workflows/messages.ts';
import type { CopyStatus, TransferOutcome } from '../workflows/replicate-messages.ts';
import { copyQuery } from '../workflows/replicate-messages.ts';
import { formatBytes } from '../plan/amounts.ts';
import { pc, pcError } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { temporalSettings, withClient } from './connection.ts';
import { CliError, exitCodes } from './errors.ts';
import type { Identity } from './identity.ts';
import { readIdentity } from './identity.ts';
import type { CopyActivity } from './migrations.ts';
import { readCopy } from './migrations.ts';
import { print, seconds } from './output.ts';
import type { OwnWorker } from './own-worker.ts';
import { isUnserved, startOwnWorker } from './own-worker.ts';
import { knownHostsFiles, readKnownHosts } from './platform.ts';
import { bar } from './view.ts';

interface CopyOptions extends GlobalOptions {
  output: OutputFormat;
  verify: 'metadata' | 'sampled' | 'full';
  live?: boolean;
  limit: number;
  sshUser: string;
  sshPort: number;
  sshIdentity?: string;
  allowRoot?: string[];
  discardChanges?: boolean;
  bringRsync?: string | true;
  taskQueue: string;
}

type CopyHandle = WorkflowHandle<typeof replicateDirectory>;

/** `ferry copy`. */
export async function copyDirectory(from: string, to: string, options: CopyOptions): Promise<void> {
  const request = copyRequest(from, to, options, readKnownHosts());
  const workflowId = copyWorkflowId(request);
  const ownQueue = `${options.taskQueue}/${workflowId}`;
  await withClient(options, async (client) => {
    const isAlone = (await isUnserved(client, options.taskQueue)) && ownIdentity(options.sshIdentity) !== undefined;
    const handle = await client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
      workflowId,
      // What other workflows wait for on the common queue is not for a worker that can copy and nothing else.
      taskQueue: isAlone ? ownQueue : options.taskQueue,
      args: [request],
      // The same copy asked for twice is one copy.
      workflowIdConflictPolicy: 'USE_EXISTING',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      staticSummary: `copy ${from} ${to}`.slice(0, 190),
    });
    const { taskQueue } = await handle.describe();
    const worker = taskQueue === ownQueue ? await workFor(ownQueue, options) : undefined;
    const screen = options.quiet === true ? undefined : createProgress(handle.workflowId, workerFor(taskQueue));
    const outcome = await follow(client, handle, screen, worker !== undefined).finally(() => worker?.end());
    if (outcome === undefined) {
      process.exitCode = exitCodes.interrupted.code;
      return;
    }
    print(outcome, options.output, () => describeOutcome(outcome));
    process.exitCode = copyExitCode(outcome, request.mode);
  });
}

/** The worker of a copy that is on this command's own queue; undefined where another one must do the work. */
async function workFor(ownQueue: string, options: CopyOptions): Promise<OwnWorker | undefined> {
  const identity = ownIdentity(options.sshIdentity);
  if (identity === undefined) return undefined;
  if (options.quiet !== true) {
    process.stderr.write(`no worker serves task queue ${options.taskQueue}: this command does the work itself\n`);
  }
  return startOwnWorker(temporalSettings(options), identity, ownQueue);
}

/** The command that starts a worker for a copy: one that somebody's `ferry copy` began alone is not on the common queue. */
export function workerFor(taskQueue: string): string {
  return `ferry worker${taskQueue === defaultTaskQueue ? '' : ` --task-queue ${taskQueue}`}`;
}

/** Whoever named no key and has none of ssh's own may have a worker that is yet to be started. */
function ownIdentity(named: string | undefined): Identity | undefined {
  try {
    return readIdentity(named);
  } catch (error) {
    if (named === undefined && error instanceof CliError && error.reason === 'notFound') return undefined;
    throw error;
  }
}

/** A proof was asked for: only a digest is one, also when the copy that was found under way turned out to be a live one. */
export function copyExitCode(outcome: TransferOutcome, wanted: ReplicateRequest['mode']): number {
  const isDone = wanted === 'final' ? outcome.digest !== undefined : outcome.ready;
  return isDone ? exitCodes.ok.code : exitCodes.failure.code;
}

export interface Place {
  /** As people wrote it: a name or an address. */
  address: string;
  path: string;
}

/** `old1:/sysvol/redis/`, `[fd00::1]:/srv/x`. */
export function parsePlace(text: string): Place {
  const groups = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<name>[A-Za-z0-9][A-Za-z0-9._-]*)):(?<path>\/.*)$/.exec(text)?.groups;
  const address = groups?.['v6'] ?? groups?.['name'];
  const path = absolutePath.safeParse(groups?.['path']?.replace(/\/+$/, ''));
  if (address === undefined || !path.success) {
    const why =
      address === undefined || path.success ? 'it must be HOST:/absolute/path/' : (path.error.issues[0]?.message ?? '');
    throw new CliError(
      'usage',
      `${text}: ${why}; nothing was done`,
      'ferry copy old1:/sysvol/redis/ new1:/sysvol/redis/',
    );
  }
  return { address, path: path.data };
}

/** A label for a machine that is known by a name with dots or by an address. */
export function labelOf(address: string): string {
  const label = address
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  const name = dnsLabel.safeParse(/^[a-z]/.test(label) ? label : `host-${label}`);
  return name.success ? name.data : `host-${short(address)}`;
}

function short(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

interface RequestOptions {
  verify: CopyOptions['verify'];
  live?: boolean;
  limit: number;
  sshUser: string;
  sshPort: number;
  allowRoot?: string[];
  discardChanges?: boolean;
  bringRsync?: string | true;
}

/** The input of the workflow. The same two places always give the same transfer, so that a copy is found again. */
export function copyRequest(
  from: string,
  to: string,
  options: RequestOptions,
  known: readonly KnownHost[],
): ReplicateRequest {
  const [source, destination] = [parsePlace(from), parsePlace(to)];
  const host = ({ address }: Place): Host => {
    const hostKeys = lookUpHostKeys(known, [address], options.sshPort);
    if (hostKeys.length === 0) throw unknownKey(address, options.sshPort);
    return { name: labelOf(address), address, port: options.sshPort, user: options.sshUser, hostKeys, role: 'other' };
  };
  const ends = { source: host(source), destination: host(destination) };
  const request: ReplicateRequest = {
    migration: 'copy',
    transfer: {
      id: `copy-${short(`${ends.source.name}:${source.path} ${ends.destination.name}:${destination.path}`)}`,
      subject: { type: 'host-service', service: 'copy' },
      source: { host: ends.source.name, path: source.path },
      destination: { host: ends.destination.name, path: destination.path },
    },
    ...ends,
    mode: options.live === true ? 'live' : 'final',
    verify: options.verify,
    limitKiBps: options.limit,
    allowedRoots: options.allowRoot ?? [],
    ...(options.discardChanges === true && { discardChanges: true }),
    ...(options.bringRsync !== undefined && {
      bringRsync: options.bringRsync === true ? {} : { program: options.bringRsync },
    }),
  };
  const parsed = replicateInputSchema.safeParse(request);
  if (parsed.success) return request;
  throw new CliError('usage', `${z.prettifyError(parsed.error)}\nNothing was done`, 'ferry copy --help', parsed.error);
}

function unknownKey(address: string, port: number): CliError {
  const at = port === 22 ? address : `-p ${port} ${address}`;
  const file = knownHostsFiles()[0] ?? '~/.ssh/known_hosts';
  return new CliError(
    'usage',
    `nobody has said yet which host key of ${address} is the right one (looked in ${knownHostsFiles().join(', ')}); nothing was done`,
    `see it: ssh-keyscan ${at} 2>/dev/null | ssh-keygen -lf -   compare it at the console of the machine, then: ssh-keyscan ${at} >> ${file}`,
  );
}

export function copyWorkflowId({ transfer }: ReplicateRequest): string {
  return `${transfer.id}-of-${transfer.source.host}-to-${transfer.destination.host}`;
}

/** Waits for the end and shows the way there on stderr; undefined when somebody stopped watching. */
async function follow(
  client: Client,
  handle: CopyHandle,
  screen: Progress | undefined,
  isOwnWork: boolean,
): Promise<TransferOutcome | undefined> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  // Kept to the end: what restores the cursor ends the process when nobody else listens any more.
  process.on('SIGINT', interrupt);
  // What still waits for an answer would keep the process for as long as the server takes to have none.
  const end = client
    .withAbortSignal(stop.signal, () => handle.result())
    .then(
      (outcome) => ({ outcome }),
      (error: unknown) => ({ error }),
    );
  try {
    for (;;) {
      const turn = await Promise.race([end, sleep(1000, undefined, { signal: stop.signal }).catch(() => undefined)]);
      if (turn !== undefined && 'outcome' in turn) return turn.outcome;
      if (stop.signal.aborted) {
        process.stderr.write(
          isOwnWork
            ? `\nStopped. What runs on the machines goes on; the same command takes it up again. End it: temporal workflow cancel -w ${handle.workflowId}, then the same command once more\n`
            : `\nStopped watching. The copy goes on; the same command finds it again. End it: temporal workflow cancel -w ${handle.workflowId}\n`,
        );
        return undefined;
      }
      if (turn !== undefined) throw copyFailed(turn.error, handle.workflowId);
      if (screen !== undefined) screen.show(await readStatus(client, handle), await readActivity(client, handle));
    }
  } finally {
    process.off('SIGINT', interrupt);
    screen?.end();
  }
}

async function readStatus(client: Client, handle: CopyHandle): Promise<CopyStatus | undefined> {
  return client.withDeadline(Date.now() + 2000, () => handle.query(copyQuery)).catch(() => undefined);
}

async function readActivity(client: Client, { workflowId }: CopyHandle): Promise<CopyActivity | undefined> {
  return readCopy(client, workflowId).catch(() => undefined);
}

function copyFailed(error: unknown, workflowId: string): unknown {
  if (!(error instanceof WorkflowFailedError)) return error;
  const cause = [error.cause?.cause, error.cause].find((candidate) => candidate instanceof Error);
  return new CliError(
    'failure',
    `the copy is not proved: ${cause?.message ?? error.message}`,
    `temporal workflow show -w ${workflowId}`,
    error,
  );
}

interface Progress {
  show(status: CopyStatus | undefined, activity: CopyActivity | undefined): void;
  end(): void;
}

/** `start` is what starts a worker. */
function createProgress(workflowId: string, start: string): Progress {
  const update = process.stderr.isTTY ? createLogUpdate(process.stderr) : undefined;
  let told = 0;
  let state: string | undefined;
  const say = (line: string): void => {
    process.stderr.write(`${new Date().toISOString()} ${line}\n`);
  };
  return {
    show(status, activity) {
      const line = describeProgress(status, activity, start);
      if (update !== undefined) {
        update(`${pcError.bold(workflowId)}\n${line}`);
        return;
      }
      for (const pass of status?.passes.slice(told) ?? []) {
        say(
          `pass ${pass.pass}: moved ${formatBytes(pass.literalBytes)} of ${formatBytes(pass.totalBytes)} in ${seconds(pass.seconds)}`,
        );
      }
      told = Math.max(told, status?.passes.length ?? 0);
      const now = status?.state ?? `no worker answers; start one: ${start}`;
      if (now !== state) say(now);
      state = now;
    },
    end: () => update?.done(),
  };
}

/** One line: what a copy does now. */
export function describeProgress(
  status: CopyStatus | undefined,
  activity: CopyActivity | undefined,
  start: string,
): string {
  const tries =
    activity !== undefined && activity.attempt > 1
      ? pcError.yellow(`  try ${activity.attempt}: ${activity.lastFailure ?? 'the worker was lost'}`)
      : '';
  if (status === undefined && activity?.progress === undefined) {
    return pcError.yellow(`no worker answers; what runs on the machines goes on. Start one: ${start}${tries}`);
  }
  const progress = activity?.progress;
  const passes = status === undefined || status.passes.length === 0 ? '' : `${status.passes.length} passes done  `;
  if (progress === undefined) return `${status?.state ?? 'copying'}  ${passes}${tries}`.trimEnd();
  const share = progress.total === 0 ? 0 : Math.min(1, progress.bytes / progress.total);
  const left = progress.etaSeconds === undefined ? '' : `  ${seconds(progress.etaSeconds)} left`;
  return `${status?.state ?? 'copying'}  ${bar(share, 20)} ${formatBytes(progress.bytes)} of ${formatBytes(progress.total)}  ${formatBytes(progress.bytesPerSecond)}/s${left}  ${pcError.dim(`pass ${progress.pass}, ${progress.step}`)}${tries}`;
}

export function describeOutcome(outcome: TransferOutcome): string {
  const moved = outcome.passes.reduce((sum, { literalBytes }) => sum + literalBytes, 0);
  const size = outcome.passes.at(-1)?.totalBytes ?? 0;
  const figures = `${formatBytes(size)}, ${formatBytes(moved)} moved in ${outcome.passes.length} ${outcome.passes.length === 1 ? 'pass' : 'passes'}`;
  if (outcome.digest !== undefined) {
    return `${pc.green('proved')}  ${figures}\n${outcome.proof ?? ''}\n${outcome.digest}`;
  }
  const last = `last delta about ${seconds(outcome.projectedFinalSeconds)}`;
  return outcome.ready
    ? `${pc.green('fresh')}  ${figures}, ${last}\nNothing is proved yet: stop what writes there, then run it without --live.`
    : `${pc.yellow('not converging')}  ${figures}, ${last}\n${outcome.advice}`;
}
