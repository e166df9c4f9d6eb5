import { Command, Option } from 'commander';
import { collect, outputOption, portNumber, wholeNumber } from './options.ts';

export function copyCommand(): Command {
  return new Command('copy')
    .description('copy one directory from machine to machine, and prove that both sides are the same')
    .argument('<from>', 'HOST:/path/ that nothing writes to (or --live)')
    .argument('<to>', 'HOST:/path/, empty or an earlier copy of the same directory')
    .addOption(
      new Option('--verify <how>', 'how both sides are compared')
        .choices(['metadata', 'sampled', 'full'])
        .default('full'),
    )
    .option('--live', 'the source is in use: repeat passes until the last delta is small; proves nothing yet')
    .option('--limit <KiB/s>', 'bandwidth of a live copy; 0 is none', wholeNumber, 0)
    .option('--ssh-user <name>', 'user on both machines', 'root')
    .option('--ssh-port <port>', 'port of sshd on both machines', portNumber, 22)
    .addOption(
      new Option('--ssh-identity <file>', 'private key that opens the machines, where no worker runs').env(
        'FERRY_SSH_IDENTITY',
      ),
    )
    .option('--allow-root <path>', 'tree in which the resolved destination may lie; repeat it', collect)
    .option('--discard-changes', 'overwrite a destination that was proved once and has been written since')
    .option(
      '--bring-rsync [path]',
      "lend rsync of the worker's machine to one that has none, until the copy ends; without it tar copies",
    )
    .option('--task-queue <name>', 'task queue of the workers', 'ferry')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
A worker does the copy; it goes on when this command ends, and the same command finds it again. Where no worker serves the task
queue, this command is one for as long as it runs. The contents of the first directory come to stand in the second. A destination that holds anything but an earlier copy of the same source is refused,
and so is one that was proved and has been written since.
Exit code 0 only when both sides were compared and are the same; with --live, when the last delta is projected to fit.

Examples:
  $ ferry copy old1:/srv/files/ new1:/srv/files/
  $ ferry copy old1:/sysvol/redis/ new1:/sysvol/redis/ --live --limit 50000
  $ ferry copy old1:/srv/files/ new1:/srv/files/ --verify sampled -o json | jq -r .digest`,
    )
    .action(async (from: string, to: string, _options, command: Command) => {
      const { copyDirectory } = await import('../copy.ts');
      await copyDirectory(from, to, command.optsWithGlobals());
    });
}
