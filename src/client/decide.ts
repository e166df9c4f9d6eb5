import type { Client } from '@temporalio/client';
import {
  isGrpcServiceError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import type { GateName } from '../plan/plan.ts';
import type { MigrationStatus } from '../workflows/messages.ts';
import { formatBytes } from '../plan/amounts.ts';
import { ask, confirm } from './ask.ts';
import { pc } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { personName, withClient } from './connection.ts';
import { CliError } from './errors.ts';
import type { MigrationHandle } from './migrations.ts';
import { findMigration, queryStatus } from './migrations.ts';
import { print, seconds } from './output.ts';
import { loadPlan } from './plan-file.ts';

export interface DecideOptions extends GlobalOptions {
  output: OutputFormat;
  by?: string;
  reason?: string;
  yes?: boolean;
  signal?: boolean;
  plan?: string;
  acceptLosingWrites?: boolean;
}

export type DecisionName = 'approve' | 'reject' | 'pause' | 'resume' | 'abort' | 'tune';

/** How long a worker may take to answer, milliseconds. */
const answerTime = 15_000;

/** `ferry approve`. */
export async function approve(gate: GateName, named: string | undefined, options: DecideOptions): Promise<void> {
  await decide(options, named, 'approve', async (status, workflowId) => {
    refuseClosed(gate, status, workflowId);
    await confirm(`${workflowId}: ${consequence(gate, status)}`, options.yes === true);
    const planDigest = options.plan === undefined ? status?.planDigest : loadPlan(options.plan).digest;
    return { gate, ...(await person(options, true)), ...(planDigest === undefined ? {} : { planDigest }) };
  });
}

/** `ferry reject`. */
export async function reject(gate: GateName, named: string | undefined, options: DecideOptions): Promise<void> {
  await decide(options, named, 'reject', async (status, workflowId) => {
    refuseClosed(gate, status, workflowId);
    await confirm(`${workflowId}: ${rejection(gate, status)}${downtimeNote(status)}`, options.yes === true);
    return { gate, ...(await person(options, true)) };
  });
}

/** `ferry pause`. */
export async function pause(named: string | undefined, options: DecideOptions): Promise<void> {
  await decide(options, named, 'pause', () => person(options, true));
}

/** `ferry resume`. */
export async function resume(named: string | undefined, options: DecideOptions): Promise<void> {
  await decide(options, named, 'resume', () => person(options, false));
}

/** `ferry abort`. */
export async function abort(named: string | undefined, options: DecideOptions): Promise<void> {
  await decide(options, named, 'abort', async (status, workflowId) => {
    const lost = options.acceptLosingWrites === true ? ' What applications wrote on the new machines is LOST.' : '';
    const what =
      status?.pointOfNoReturn === true
        ? 'The old nodes are removed: nothing can be rolled back. The migration would stand still before its next step.'
        : `Everything done so far is undone in reverse, and the platform ends on its old machines.${lost}`;
    await confirm(`${workflowId}: ${what}${downtimeNote(status)}`, options.yes === true);
    return {
      ...(await person(options, true)),
      ...(options.acceptLosingWrites === true ? { acceptLosingWrites: true } : {}),
    };
  });
}

/** `ferry tune`. */
export async function tune(named: string | undefined, options: DecideOptions & { limit: number }): Promise<void> {
  await decide(options, named, 'tune', async () => ({
    ...(await person(options, false)),
    preCopyKiBps: options.limit,
  }));
}

/** Nobody is asked to confirm what the migration would refuse. */
function refuseClosed(gate: GateName, status: MigrationStatus | undefined, workflowId: string): void {
  if (status === undefined || status.awaitingGate === gate) return;
  const state = status.gates.find(({ name }) => name === gate)?.state;
  const about = state === 'approved' || state === 'rejected' ? `has been ${state}` : 'is not open yet';
  const other = status.awaitingGate;
  throw new CliError(
    'refused',
    `refused: gate ${gate} ${about}; ${other === undefined ? 'no gate awaits a decision' : `the gate that awaits a decision is ${other}`}; nothing was recorded`,
    `ferry status ${workflowId}`,
  );
}

async function person(options: DecideOptions, withReason: boolean): Promise<{ by: string; reason?: string }> {
  const by = options.by ?? personName();
  if (!withReason) return { by };
  const reason = options.reason ?? (await ask('Why? ', 'a decision needs a reason: --reason "…"'));
  return { by, reason };
}

function consequence(gate: GateName, status: MigrationStatus | undefined): string {
  const copied = status?.transfers.reduce((sum, { passes }) => sum + (passes.at(-1)?.totalBytes ?? 0), 0) ?? 0;
  switch (gate) {
    case 'open-downtime':
      return `Applications of ${status?.cluster ?? 'the cluster'} stop now. ${formatBytes(copied)} are copied already.${downtimeNote(status)}`;
    case 'remove-nodes':
      return `The old nodes leave the cluster: there is no way back after this.${downtimeNote(status)}`;
    case 'close-downtime':
      return status?.pointOfNoReturn === true
        ? `Applications start on the new machines; the old ones have left already.${downtimeNote(status)}`
        : `Applications start on the new machines, and what they write stands there alone: going back afterwards loses it.${downtimeNote(status)}`;
  }
}

/** As the workflow takes it: once applications may write on the new machines, only an abort goes back. */
function rejection(gate: GateName, status: MigrationStatus | undefined): string {
  if (gate === 'close-downtime') {
    const orAborts = status?.pointOfNoReturn === true ? '' : ' or aborts';
    return `The result is sent back: applications stay stopped until somebody resumes${orAborts}.`;
  }
  const isReleased = status?.phases.some(({ name, startedAt }) => name === 'start-apps' && startedAt !== undefined);
  return isReleased === true
    ? 'The removal is sent back: nothing is undone, applications run on and the old nodes stay, until somebody resumes and it is asked again.'
    : `Rejecting ${gate} rolls the migration back: what was done is undone in reverse.`;
}

function downtimeNote(status: MigrationStatus | undefined): string {
  if (status === undefined) return '';
  const { downtime } = status;
  const band = `projected downtime ${seconds(downtime.projectedSeconds)} ± ${seconds(downtime.projectedErrorSeconds)}, budget ${seconds(downtime.budgetSeconds)}`;
  return downtime.startedAt === undefined
    ? `\n${band}.`
    : `\nDowntime so far ${seconds(downtime.spentSeconds)}; ${band}.`;
}

/** Finds the migration, lets the command make its input from the present status, sends it, and prints the answer. */
async function decide(
  options: DecideOptions,
  named: string | undefined,
  name: DecisionName,
  makeInput: (status: MigrationStatus | undefined, workflowId: string) => Promise<object>,
): Promise<void> {
  await withClient(options, async (client) => {
    const handle = await findMigration(client, named);
    await refuseEnded(handle);
    const input = await makeInput(await queryStatus(client, handle), handle.workflowId);
    const answer =
      options.signal === true ? await signal(handle, name, input) : await update(client, handle, name, input);
    print(
      { workflowId: handle.workflowId, decision: name, ...input, answer },
      options.output,
      () => `${pc.green('✔')} ${answer}`,
    );
  });
}

async function refuseEnded(handle: MigrationHandle): Promise<void> {
  const { status } = await handle.describe();
  if (status.name === 'RUNNING') return;
  throw new CliError(
    'refused',
    `${handle.workflowId} has ended (${status.name.toLowerCase()}); there is nothing to decide`,
    `ferry report ${handle.workflowId}`,
  );
}

async function update(client: Client, handle: MigrationHandle, name: DecisionName, input: object): Promise<string> {
  try {
    return await client.withDeadline(Date.now() + answerTime, () =>
      handle.executeUpdate<string, [object]>(name, { args: [input] }),
    );
  } catch (error) {
    throw explainUpdate(error, name, handle.workflowId);
  }
}

function explainUpdate(error: unknown, name: DecisionName, workflowId: string): unknown {
  if (error instanceof WorkflowUpdateFailedError) {
    const why = error.cause?.message ?? error.message;
    const losesWrites = name === 'abort' && why.includes('acceptLosingWrites');
    return new CliError(
      'refused',
      `refused: ${why}; nothing was recorded`,
      losesWrites ? `ferry abort ${workflowId} --accept-losing-writes --reason "…"` : `ferry status ${workflowId}`,
      error,
    );
  }
  const inner = [error, (error as Error).cause].find((candidate) => isGrpcServiceError(candidate));
  if (isGrpcServiceError(inner) && inner.details.includes('Workflow Task in failed state')) {
    return new CliError(
      'unreachable',
      'the worker that is there cannot go on with this migration; nothing was recorded',
      `ferry status ${workflowId} says why`,
      error,
    );
  }
  if (!(error instanceof WorkflowUpdateRPCTimeoutOrCancelledError)) return error;
  return new CliError(
    'unreachable',
    'no worker answered in time; the decision may still arrive when one comes back',
    `start a worker (ferry worker), look at ferry status ${workflowId}, and send the decision again only if it is not there`,
    error,
  );
}

async function signal(handle: MigrationHandle, name: DecisionName, input: object): Promise<string> {
  await handle.signal<[object]>(name, input);
  return `sent; whether it counts stands in: ferry status ${handle.workflowId}`;
}
