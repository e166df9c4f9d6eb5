import { Command } from 'commander';
import { defaultBackupDirectory } from '../../plan/names.ts';
import { collectPairs, outputOption, portNumber, withPlatformOptions } from './options.ts';

export function breakGlassCommand(): Command {
  return withPlatformOptions(new Command('break-glass'))
    .description(
      'without Temporal: where things stand, and the commands that bring the old cluster back; changes nothing',
    )
    .option('--cluster <name>', 'which migration (default: the only one that left traces)')
    .option('--control-host <name>', 'machine with the backup and proton-cli (default: the first master)')
    .option('--host-address <name=address>', 'address of a machine; repeat it', collectPairs)
    .option('--ssh-user <name>', 'user on the machines', 'root')
    .option('--ssh-port <port>', 'port of sshd on the machines', portNumber, 22)
    .option('--config-namespace <name>', 'namespace of proton-cli-config', 'proton')
    .option('--resource-namespace <name>', 'namespace of the components', 'resource')
    .option('--backup-directory <path>', 'where the backup lies on the control host', defaultBackupDirectory)
    .option('--backup-key-file <file>', 'key of an encrypted backup')
    .option('--fetch <directory>', 'instead: bring the backup here, decrypted and checked, files of mode 0600')
    .option('--open <file>', 'instead: decrypt a file of a backup that was brought here, beside it')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
For the night on which Temporal and the worker are both lost inside the window. It reads the breadcrumbs in the cluster
(annotations ferry.migration/…), what the migration prepared, and the backup on the control host. It runs none of the
commands that it prints. A snapshot of etcd lies beside the backup, on the master whose member was asked for it (see the report);
where it is encrypted, --open makes it readable.

Examples:
  $ ferry break-glass
  $ ferry break-glass --cluster site-a --backup-key-file /etc/ferry/backup.key
  $ ferry break-glass -o json | jq -r '.steps[].commands[]'
  $ ferry break-glass --open etcd-20260101T020304000Z.db.aes --backup-key-file backup.key`,
    )
    .action(async (_options, command: Command) => {
      const { breakGlass } = await import('../break-glass.ts');
      await breakGlass(command.optsWithGlobals());
    });
}
