import { Command } from 'commander';
import { outputOption, withClusterOptions } from './options.ts';

export function diffCommand(): Command {
  return withClusterOptions(new Command('diff'))
    .description('what each stage will change in the configuration and in the Secrets, without secret values')
    .argument('<plan>', 'plan file, YAML or JSON; - reads stdin')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
The edits are the ones that the migration makes, on the documents as they are in the cluster now; each stage builds on the one
before. Nothing is written.

Examples:
  $ ferry diff plan.yaml | less -R
  $ ferry diff plan.yaml --no-color > changes.diff`,
    )
    .action(async (file: string, _options, command: Command) => {
      const { showDiff } = await import('../diff.ts');
      await showDiff(file, command.optsWithGlobals());
    });
}
