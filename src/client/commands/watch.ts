import { Command, InvalidArgumentError } from 'commander';
import { exitCodes } from '../errors.ts';

export function watchCommand(): Command {
  return new Command('watch')
    .description('follow a migration on one screen; Ctrl-C stops watching, the migration goes on')
    .argument('[migration]', 'cluster or workflow id (default: the one that runs)')
    .option('--interval <seconds>', 'seconds between looks', intervalOf, 1)
    .option('--plain', 'one line per event, also on a terminal')
    .addHelpText(
      'after',
      `
Exits ${exitCodes.ok.code} when the migration is completed, ${exitCodes.rolledBack.code} when it was rolled back, ${exitCodes.failure.code} when it failed or was terminated.

Examples:
  $ ferry watch
  $ ferry watch --plain | tee migration.log`,
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const { watchMigration } = await import('../watch.ts');
      await watchMigration(named, command.optsWithGlobals());
    });
}

function intervalOf(text: string): number {
  const seconds = Number(text);
  // A timer of Node holds 24 days, and takes anything longer for nothing.
  if (text.trim() !== '' && seconds > 0 && seconds <= 86_400) return seconds;
  throw new InvalidArgumentError('It must be a number of seconds, such as 0.5 or 10.');
}
