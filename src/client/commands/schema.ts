import { Argument, Command } from 'commander';

/** What can be described: the plan, and every message to the workflow `migrateNodes`. */
export const schemaNames = ['plan', 'approve', 'reject', 'pause', 'resume', 'abort', 'tune'] as const;
export type SchemaName = (typeof schemaNames)[number];

export function schemaCommand(): Command {
  return new Command('schema')
    .description('JSON Schema of the plan, or of a message to the workflow')
    .addArgument(new Argument('[name]', 'what to describe').choices(schemaNames).default('plan'))
    .addHelpText(
      'after',
      `
Examples:
  $ ferry schema > plan.schema.json      # first line of plan.yaml: # yaml-language-server: $schema=plan.schema.json
  $ ferry schema approve`,
    )
    .action(async (name: SchemaName) => {
      const { printSchema } = await import('../schema.ts');
      printSchema(name);
    });
}
