import { Command, Option } from 'commander';
import type { GateName } from '../../plan/names.ts';
import { gateNames } from '../../plan/names.ts';
import type { DecisionName } from '../decide.ts';
import { oneOf, outputOption, wholeNumber } from './options.ts';

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
      const { approve } = await import('../decide.ts');
      await approve(gate, named, command.optsWithGlobals());
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
      const { reject } = await import('../decide.ts');
      await reject(gate, named, command.optsWithGlobals());
    });
}

export function pauseCommand(): Command {
  return decision('pause', 'stand still before the next step; copies that run stop as well')
    .addOption(nothingToAsk())
    .addHelpText(
      'after',
      examples('pause', '{"by":"li","reason":"network trouble"}', ['ferry pause --reason "network trouble"']),
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const { pause } = await import('../decide.ts');
      await pause(named, command.optsWithGlobals());
    });
}

export function resumeCommand(): Command {
  return decision('resume', 'end a pause, whoever asked for it, and try again all that is blocked', false, false)
    .addOption(nothingToAsk())
    .addHelpText('after', examples('resume', '{"by":"li"}', ['ferry resume']))
    .action(async (named: string | undefined, _options, command: Command) => {
      const { resume } = await import('../decide.ts');
      await resume(named, command.optsWithGlobals());
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
      const { abort } = await import('../decide.ts');
      await abort(named, command.optsWithGlobals());
    });
}

export function tuneCommand(): Command {
  return decision('tune', 'change the bandwidth of online copies while they run', false, false)
    .requiredOption('--limit <KiB/s>', 'KiB/s per source host; 0 is unlimited', wholeNumber)
    .addOption(nothingToAsk())
    .addHelpText(
      'after',
      examples('tune', '{"by":"li","preCopyKiBps":20000}', ['ferry tune --limit 20000', 'ferry tune --limit 0']),
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const { tune } = await import('../decide.ts');
      await tune(named, command.optsWithGlobals());
    });
}

/** A script that gives it to every decision must not fail where nothing is asked. */
function nothingToAsk(): Option {
  return new Option('-y, --yes', 'as for the other decisions; this one asks nothing');
}

function decision(name: DecisionName, description: string, withGate = false, withReason = true): Command {
  const command = new Command(name).description(description);
  if (withGate) command.addArgument(oneOf('<gate>', 'which gate', gateNames));
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
