import { Argument, Command } from 'commander';
import { z } from 'zod';
import { gateNames, planSchema } from '../plan/plan.ts';

const gate = z.enum(gateNames);
const by = z.string().min(1).describe('who decides');
const reason = z.string().min(1).describe('why; kept for the report');

/** What can be sent to the workflow `migrateNodes`, by signal or by update of the same name. */
const messages = {
  approve: z.object({
    gate,
    by,
    reason,
    planDigest: z.string().optional().describe('must be the digest of the running plan'),
  }),
  reject: z.object({ gate, by, reason }),
  pause: z.object({ by, reason }),
  resume: z.object({ by }),
  abort: z.object({
    by,
    reason,
    acceptLosingWrites: z
      .boolean()
      .optional()
      .describe('needed once applications wrote on the new nodes: those writes are lost'),
  }),
  tune: z.object({ by, preCopyKiBps: z.int().min(0).describe('KiB/s per source host; 0 is unlimited') }),
};
const schemas = { plan: planSchema, ...messages };
export const schemaNames = Object.keys(schemas) as (keyof typeof schemas)[];

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
    .action((name: keyof typeof schemas) => {
      process.stdout.write(`${JSON.stringify(jsonSchema(name), null, 2)}\n`);
    });
}

/** JSON Schema (2020-12) of what a person writes: fields with defaults may be left out. */
export function jsonSchema(name: keyof typeof schemas): object {
  return { title: `ferry ${name}`, ...z.toJSONSchema(schemas[name], { io: 'input' }) };
}
