import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { defaultBackupDirectory } from '../plan/plan.ts';
import type { Assessment, Findings } from './break-glass-assess.ts';
import { assess } from './break-glass-assess.ts';
import { look, readBackupFiles } from './break-glass-look.ts';
import { pc } from './colors.ts';
import type { GlobalOptions } from './connection.ts';
import { CliError } from './errors.ts';
import type { OutputFormat } from './output.ts';
import { outputOption, print } from './output.ts';
import type { PlatformOptions } from './platform.ts';
import { readKnownHosts, withPlatform, withPlatformOptions } from './platform.ts';

interface BreakGlassOptions extends GlobalOptions, PlatformOptions {
  output: OutputFormat;
  cluster?: string;
  controlHost?: string;
  hostAddress?: Record<string, string>;
  sshUser: string;
  sshPort: number;
  configNamespace: string;
  resourceNamespace: string;
  backupDirectory: string;
  backupKeyFile?: string;
  fetch?: string;
}

export function breakGlassCommand(): Command {
  return withPlatformOptions(new Command('break-glass'))
    .description(
      'without Temporal: where things stand, and the commands that bring the old cluster back; changes nothing',
    )
    .option('--cluster <name>', 'which migration (default: the only one that left traces)')
    .option('--control-host <name>', 'machine with the backup and proton-cli (default: the first master)')
    .option('--host-address <name=address>', 'address of a machine; repeat it', pairs)
    .option('--ssh-user <name>', 'user on the machines', 'root')
    .option('--ssh-port <port>', 'port of sshd on the machines', port, 22)
    .option('--config-namespace <name>', 'namespace of proton-cli-config', 'proton')
    .option('--resource-namespace <name>', 'namespace of the components', 'resource')
    .option('--backup-directory <path>', 'where the backup lies on the control host', defaultBackupDirectory)
    .option('--backup-key-file <file>', 'key of an encrypted backup')
    .option('--fetch <directory>', 'instead: bring the backup here, decrypted and checked, files of mode 0600')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
For the night on which Temporal and the worker are both lost inside the window. It reads the breadcrumbs in the cluster
(annotations ferry.migration/…), what the migration prepared, and the backup on the control host. It runs none of the
commands that it prints.

Examples:
  $ ferry break-glass
  $ ferry break-glass --cluster site-a --backup-key-file /etc/ferry/backup.key
  $ ferry break-glass -o json | jq -r '.steps[].commands[]'`,
    )
    .action(async (_options, command: Command) => {
      const options = command.optsWithGlobals<BreakGlassOptions>();
      await withPlatform(options, async ({ api, hosts }) => {
        const { hostAddress, ...rest } = options;
        const { findings, control } = await look(
          { api, hosts, knownHosts: readKnownHosts() },
          { ...rest, hostAddress: hostAddress ?? {} },
        );
        if (options.fetch !== undefined) {
          const { backup } = findings;
          if (backup === undefined || control === undefined) {
            throw new CliError('notFound', 'there is no backup to fetch', 'ferry break-glass says what was found');
          }
          saveBackup(options.fetch, await readBackupFiles(control, backup, options.backupKeyFile));
          return;
        }
        const assessment = assess(findings);
        print({ migration: findings.migration, ...assessment }, options.output, () =>
          describeAssessment(findings, assessment),
        );
      });
    });
}

function saveBackup(directory: string, files: ReadonlyMap<string, Buffer>): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const [name, content] of files) writeFileSync(join(directory, name), content, { mode: 0o600, flag: 'wx' });
  process.stderr.write(`${files.size} files in ${directory}. They are secret: remove them when you are done.\n`);
}

const paints: Record<Assessment['verdict'], (text: string) => string> = {
  'nothing to bring back': pc.green,
  'the way back is open': pc.yellow,
  'no way back': pc.red,
  unclear: pc.red,
};

export function describeAssessment({ migration }: Findings, { verdict, stands, warnings, steps }: Assessment): string {
  return [
    `${pc.bold(migration)}: ${paints[verdict](verdict)}`,
    '',
    ...stands.map((line) => `  ${line}`),
    ...(verdict === 'nothing to bring back' ? [] : ['', ...warnings.map((line) => `${pc.yellow('!')} ${line}`)]),
    ...steps.flatMap(({ title, why, commands }, index) => [
      '',
      pc.bold(`${index + 1}. ${title}`),
      `   ${pc.dim(why)}`,
      // Not indented by more than a blank, so that they can be copied; no colours inside.
      ...commands.map((command) => `   ${command}`),
    ]),
    ...(steps.length === 0
      ? []
      : ['', 'Nothing was changed. Run one step after the other, and look at what it answers.']),
  ].join('\n');
}

function pairs(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('it must be NAME=ADDRESS.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('it must be a number.');
  return Number(text);
}
