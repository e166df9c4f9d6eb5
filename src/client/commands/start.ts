import { Command } from 'commander';
import { outputOption } from './options.ts';

export function startCommand(): Command {
  return new Command('start')
    .description('start the migration of a plan; the first change to the platform comes after a gate')
    .argument('<plan>', 'plan file, YAML or JSON; - reads stdin')
    .option('--task-queue <name>', 'task queue of the workers', 'ferry')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
The same with the plain Temporal CLI:
  $ temporal workflow start --type migrateNodes --task-queue ferry --workflow-id migrate-CLUSTER --input-file plan.json

Examples:
  $ ferry start plan.yaml
  $ ferry start plan.json -o json`,
    )
    .action(async (file: string, _options, command: Command) => {
      const { startMigration } = await import('../start.ts');
      await startMigration(file, command.optsWithGlobals());
    });
}
