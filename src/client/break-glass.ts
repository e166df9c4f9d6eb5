import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Assessment, Findings } from './break-glass-assess.ts';
import { assess } from './break-glass-assess.ts';
import { look, readBackupFiles } from './break-glass-look.ts';
import { pc } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { CliError } from './errors.ts';
import { openBackup } from './open-backup.ts';
import { print } from './output.ts';
import type { PlatformOptions } from './platform.ts';
import { readKnownHosts, withPlatform } from './platform.ts';

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
  open?: string;
}

/** `ferry break-glass`. */
export async function breakGlass(options: BreakGlassOptions): Promise<void> {
  if (options.open !== undefined) {
    process.stdout.write(`${await openBackup(options.open, options.backupKeyFile)}\n`);
    return;
  }
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
