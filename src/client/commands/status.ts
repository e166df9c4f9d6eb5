import { Command } from 'commander';
import { exitCodes } from '../errors.ts';
import { outputOption } from './options.ts';

export function statusCommand(): Command {
  return new Command('status')
    .description('one look at a migration: phases, copies, downtime, and who is awaited')
    .argument('[migration]', 'cluster or workflow id (default: the one that runs)')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Where no worker answers it prints what the server knows, and exits ${exitCodes.unreachable.code}. It exits ${exitCodes.failure.code} when the workflow failed or was terminated.

The same with the plain Temporal CLI:
  $ temporal workflow query --workflow-id migrate-CLUSTER --type status

Examples:
  $ ferry status
  $ ferry status -o json | jq -r .awaitingGate
  $ temporal workflow list --query "FerryAwaitingGate IS NOT NULL"`,
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const { showStatus } = await import('../status.ts');
      await showStatus(named, command.optsWithGlobals());
    });
}
