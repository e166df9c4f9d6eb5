import { Command } from 'commander';
import { exitCodes } from '../errors.ts';
import { outputOption, withPlatformOptions } from './options.ts';

export function checkCommand(): Command {
  return withPlatformOptions(new Command('check'))
    .description('hold a plan against the live platform: every check, one line each; changes nothing')
    .argument('<plan>', 'plan file, YAML or JSON; - reads stdin')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
These are the checks that the migration itself runs first. Exit code 0 when none failed (warnings do not fail),
${exitCodes.checkFailed.code} when at least one did.

Examples:
  $ ferry check plan.yaml
  $ ferry check plan.yaml -o json | jq '.[] | select(.state == "failed")'`,
    )
    .action(async (file: string, _options, command: Command) => {
      const { runChecks } = await import('../check.ts');
      await runChecks(file, command.optsWithGlobals());
    });
}
