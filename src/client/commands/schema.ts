import { Command, Option } from 'commander';
import { oneOf } from './options.ts';

/** What can be described: the inputs of both workflows, and every message to `migrateNodes`. */
export const schemaNames = ['plan', 'copy', 'approve', 'reject', 'pause', 'resume', 'abort', 'tune'] as const;
export type SchemaName = (typeof schemaNames)[number];

export function schemaCommand(): Command {
  return new Command('schema')
    .description('JSON Schema of the plan, of a single copy, or of a message to the workflow')
    .addArgument(oneOf('[name]', 'what to describe', schemaNames).default('plan'))
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['json', 'yaml']).default('json'))
    .addHelpText(
      'after',
      `
Examples:
  $ ferry schema > plan.schema.json      # first line of plan.yaml: # yaml-language-server: $schema=plan.schema.json
  $ ferry schema approve`,
    )
    .action(async (name: SchemaName, { output }: { output: 'json' | 'yaml' }) => {
      const { printSchema } = await import('../schema.ts');
      printSchema(name, output);
    });
}
