import { stringify } from 'yaml';
import type { ReportFormat } from './commands/report.ts';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { findMigration } from './migrations.ts';
import { writeResult } from './output.ts';
import { reportHtml } from './report-html.ts';
import { readHistory } from './report-history.ts';
import type { ReportModel } from './report-model.ts';
import { reportOf } from './report-of.ts';
import { reportMarkdown } from './report-text.ts';

interface ReportOptions extends GlobalOptions {
  output?: ReportFormat;
  outputFile?: string;
  runId?: string;
}

/** `ferry report`. */
export async function writeReport(named: string | undefined, options: ReportOptions): Promise<void> {
  await withClient(options, async (client) => {
    const { workflowId } = await findMigration(client, named, true);
    const report = reportOf(await readHistory(client, workflowId, options.runId), new Date().toISOString());
    const file = options.outputFile;
    const text = renderReport(report, options.output ?? formatOf(file));
    if (file === undefined) {
      process.stdout.write(text);
      return;
    }
    writeResult(file, text);
    if (options.quiet !== true) process.stderr.write(`Report of ${workflowId} written to ${file}\n`);
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
