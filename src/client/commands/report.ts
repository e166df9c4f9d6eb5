import { Command, Option } from 'commander';

/** `table` is markdown, for whoever types what every other command takes. */
const formats = ['html', 'markdown', 'table', 'json', 'yaml'] as const;
export type ReportFormat = (typeof formats)[number];

export function reportCommand(): Command {
  return new Command('report')
    .description('the record of a migration, from its history alone: who, when, why, how long, what was proved')
    .argument('[migration]', 'cluster or workflow id (default: the one that runs, else the last one)')
    .addOption(
      new Option(
        '-o, --output <format>',
        'how to print (default: by the name of --output-file, else markdown)',
      ).choices(formats),
    )
    .option('--output-file <file>', 'write the report there')
    .option('--run-id <run>', 'an earlier try under the same id, by any of its runs (default: the newest)')
    .addHelpText(
      'after',
      `
The HTML file holds everything it shows and can be printed. No worker is needed, only the history: a report can be made while the
migration runs and, as long as the server keeps the history, long after.

Examples:
  $ ferry report --output-file report.html
  $ ferry report migrate-site-a -o markdown
  $ ferry report -o json | jq .downtime
  $ ferry report migrate-site-a --run-id 0198a5c2-7c1e-7a40-9d53-2f1f0c7ab3de`,
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const { writeReport } = await import('../report.ts');
      await writeReport(named, command.optsWithGlobals());
    });
}
