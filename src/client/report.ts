import { Command, Option } from 'commander';
import { stringify } from 'yaml';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { findMigration } from './migrations.ts';
import { writeResult } from './output.ts';
import { reportHtml } from './report-html.ts';
import { readHistory } from './report-history.ts';
import type { ReportModel } from './report-model.ts';
import { reportOf } from './report-model.ts';
import { reportMarkdown } from './report-text.ts';

/** `table` is markdown, for whoever types what every other command takes. */
const formats = ['html', 'markdown', 'table', 'json', 'yaml'] as const;
type ReportFormat = (typeof formats)[number];

interface ReportOptions extends GlobalOptions {
  output?: ReportFormat;
  outputFile?: string;
}

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
    .addHelpText(
      'after',
      `
The HTML file holds everything it shows and can be printed. No worker is needed, only the history: a report can be made while the
migration runs and, as long as the server keeps the history, long after.

Examples:
  $ ferry report --output-file report.html
  $ ferry report migrate-site-a -o markdown
  $ ferry report -o json | jq .downtime`,
    )
    .action(async (named: string | undefined, _options, command: Command) => {
      const options = command.optsWithGlobals<ReportOptions>();
      await withClient(command, async (client) => {
        const { workflowId } = await findMigration(client, named, true);
        const report = reportOf(await readHistory(client, workflowId), new Date().toISOString());
        const file = options.outputFile;
        const text = renderReport(report, options.output ?? formatOf(file));
        if (file === undefined) {
          process.stdout.write(text);
          return;
        }
        writeResult(file, text);
        if (options.quiet !== true) process.stderr.write(`Report of ${workflowId} written to ${file}\n`);
      });
    });
}

export function formatOf(file: string | undefined): ReportFormat {
  if (file?.endsWith('.json') === true) return 'json';
  if (file !== undefined && /\.ya?ml$/.test(file)) return 'yaml';
  return file !== undefined && /\.html?$/.test(file) ? 'html' : 'markdown';
}

export function renderReport(model: ReportModel, format: ReportFormat): string {
  switch (format) {
    case 'html':
      return reportHtml(model);
    case 'markdown':
    case 'table':
      return reportMarkdown(model);
    case 'json':
      return `${JSON.stringify(model, null, 2)}\n`;
    case 'yaml':
      return stringify(model, { lineWidth: 0 });
  }
}
