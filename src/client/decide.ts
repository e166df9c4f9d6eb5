import type { Client } from '@temporalio/client';
import { Argument, Command, InvalidArgumentError } from 'commander';
import { gateNames } from '../plan/plan.ts';
import type { GateName } from '../plan/plan.ts';
import type { MigrationStatus } from '../workflows/messages.ts';
import { ask, confirm } from './ask.ts';
import { pc } from './colors.ts';
import type { GlobalOptions } from './connection.ts';
import { personName, withClient } from './connection.ts';
import { CliError } from './errors.ts';
import type { MigrationHandle } from './migrations.ts';
import { findMigration, queryStatus } from './migrations.ts';
import type { OutputFormat } from './output.ts';
import { bytes, outputOption, print, seconds } from './output.ts';
import { loadPlan } from './plan-file.ts';

interface DecideOptions extends GlobalOptions {
  output: OutputFormat;
  by?: string;
  reason?: string;
  yes?: boolean;
  signal?: boolean;
  plan?: string;
  acceptLosingWrites?: boolean;
}

type DecisionName = 'approve' | 'reject' | 'pause' | 'resume' | 'abort' | 'tune';

/** How long a worker may take to answer, milliseconds. */
const answerTime = 15_000;

export function approveCommand(): Command {
  return decision('approve', 'open a gate: go on with what it guards', true)
    .option('--plan <file>', 'approve only if exactly this plan runs (default: the plan that runs now)')
    .option('-y, --yes', 'do not ask')
    .addHelpText(
      'after',
      examples('approve', '{"gate":"open-downtime","by":"li","reason":"window open"}', [
        'ferry approve open-downtime --reason "window open"',
        'ferry approve remove-nodes migrate-prod --reason "placement checked" --yes',
      ]),
    )
    .action(async (gate: GateName, named: string | undefined, _options, command: Command) => {
      const options = command.optsWithGlobals<DecideOptions>();
      await decide(command, named, 'approve', async (status) => {
        await confirm(consequence(gate, status), options.yes === true);
        const planDigest = options.plan === undefined ? status?.planDigest : loadPlan(options.plan).digest;
        return { gate, ...(await person(options, true)), ...(planDigest === undefined ? {} : { planDigest }) };
      });
    });
}

export function rejectCommand(): Command {
  return decision('reject', 'close a gate: go back, or send a result back', true)
    .option('-y, --yes', 'do not ask')
    .addHelpText(
      'after',
      examples('reject', '{"gate":"remove-nodes","by":"li","reason":"redis is slow"}', [
        'ferry reject remove-nodes --reason "redis is slow on new2"',
      ]),
    )
    .action(async (gate: GateName, named: string | undefined, _options, command: Command) => {
      const options = command.optsWithGlobals<DecideOptions>();
      await decide(command, named, 'reject', async (status) => {
        const what =
          gate === 'close-downtime'
            ? 'The result is sent back: applications stay stopped until somebody resumes or aborts.'
            : `Rejecting ${gate} rolls the migration back: what was done is undone in reverse.`;
        await confirm(`${what}${downtimeNote(status)}`, options.yes === true);
        return { gate, ...(await person(options, true)) };
      });
    });
}

export function pauseCommand(): Command {
  return decision('pause', 'stand still before the next step; copies that run stop as well')
    .addHelpText(
      'after',
      examples('pause', '{"by":"li","reason":"network trouble"}', ['ferry pause --reason "network trouble"']),
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      await decide(command, named, 'pause', () => person(command.optsWithGlobals(), true));
    });
}

export function resumeCommand(): Command {
  return decision('resume', 'go on after a pause, or try a blocked phase again', false, false)
    .addHelpText('after', examples('resume', '{"by":"li"}', ['ferry resume']))
    .action(async (named: string | undefined, _options, command: Command) => {
      await decide(command, named, 'resume', () => person(command.optsWithGlobals(), false));
    });
}

export function abortCommand(): Command {
  return decision('abort', 'give up and go back to the old machines, as long as there is a way back')
    .option('--accept-losing-writes', 'also when applications have written on the new machines: those writes are lost')
    .option('-y, --yes', 'do not ask')
    .addHelpText(
      'after',
      examples('abort', '{"by":"li","reason":"out of time"}', [
        'ferry abort --reason "out of time"',
        'ferry abort migrate-prod --reason "corrupt index" --accept-losing-writes --yes',
      ]),
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const options = command.optsWithGlobals<DecideOptions>();
      await decide(command, named, 'abort', async (status) => {
        const lost = options.acceptLosingWrites === true ? ' What applications wrote on the new machines is LOST.' : '';
        const what =
          status?.pointOfNoReturn === true
            ? 'The old nodes are removed: nothing can be rolled back. The migration would stand still before its next step.'
            : `Everything done so far is undone in reverse, and the platform ends on its old machines.${lost}`;
        await confirm(`${what}${downtimeNote(status)}`, options.yes === true);
        return {
          ...(await person(options, true)),
          ...(options.acceptLosingWrites === true ? { acceptLosingWrites: true } : {}),
        };
      });
    });
}

export function tuneCommand(): Command {
  return decision('tune', 'change the bandwidth of online copies while they run', false, false)
    .requiredOption('--limit <KiB/s>', 'KiB/s per source host; 0 is unlimited', (value) => {
      if (!/^\d+$/.test(value)) throw new InvalidArgumentError('a whole number of KiB/s, 0 for unlimited');
      return Number(value);
    })
    .addHelpText(
      'after',
      examples('tune', '{"by":"li","preCopyKiBps":20000}', ['ferry tune --limit 20000', 'ferry tune --limit 0']),
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const options = command.optsWithGlobals<DecideOptions & { limit: number }>();
      await decide(command, named, 'tune', async () => ({
        ...(await person(options, false)),
        preCopyKiBps: options.limit,
      }));
    });
}

function decision(name: DecisionName, description: string, withGate = false, withReason = true): Command {
  const command = new Command(name).description(description);
  if (withGate) command.addArgument(new Argument('<gate>', 'which gate').choices(gateNames));
  command.argument('[migration]', 'cluster or workflow id (default: the one that runs)');
  if (withReason) command.option('--reason <text>', 'why; kept for the report (asked for on a terminal)');
  return command
    .option('--by <name>', 'who decides (default: FERRY_USER, SUDO_USER, USER)')
    .option('--signal', 'send a signal instead of an update: it waits for a worker, and cannot be refused up front')
    .addOption(outputOption());
}

function examples(name: DecisionName, input: string, lines: readonly string[]): string {
  return `
The same with the plain Temporal CLI:
  $ temporal workflow update execute --workflow-id migrate-CLUSTER --name ${name} --input '${input}'
  $ temporal workflow signal --workflow-id migrate-CLUSTER --name ${name} --input '${input}'

Examples:
${lines.map((line) => `  $ ${line}`).join('\n')}`;
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
      return `Applications of ${status?.cluster ?? 'the cluster'} stop now. ${bytes(copied)} are copied already.${downtimeNote(status)}`;
    case 'remove-nodes':
      return `The old nodes leave the cluster: there is no way back after this.${downtimeNote(status)}`;
    case 'close-downtime':
      return status?.pointOfNoReturn === true
        ? `Applications start on the new machines; the old ones have left already.${downtimeNote(status)}`
        : `Applications start on the new machines, and what they write stands there alone: going back afterwards loses it.${downtimeNote(status)}`;
  }
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
  command: Command,
  named: string | undefined,
  name: DecisionName,
  makeInput: (status: MigrationStatus | undefined) => Promise<object>,
): Promise<void> {
  const options = command.optsWithGlobals<DecideOptions>();
  await withClient(command, async (client) => {
    const handle = await findMigration(client, named);
    await refuseEnded(handle);
    const input = await makeInput(await queryStatus(client, handle));
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
  return client.withDeadline(Date.now() + answerTime, () =>
    handle.executeUpdate<string, [object]>(name, { args: [input] }),
  );
}

async function signal(handle: MigrationHandle, name: DecisionName, input: object): Promise<string> {
  await handle.signal<[object]>(name, input);
  return `sent; whether it counts stands in: ferry status ${handle.workflowId}`;
}
