import { z } from 'zod';
import { gateNames, planSchema } from '../plan/plan.ts';
import { replicateInputSchema } from '../plan/replicate.ts';
import type { SchemaName } from './commands/schema.ts';
import { print } from './output.ts';

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
const schemas: Record<SchemaName, z.ZodType> = {
  plan: planSchema,
  copy: replicateInputSchema,
  ...messages,
};

/** `ferry schema`. */
export function printSchema(name: SchemaName, format: 'json' | 'yaml'): void {
  print(jsonSchema(name), format, () => '');
}

/** JSON Schema (2020-12) of what a person writes: fields with defaults may be left out. */
export function jsonSchema(name: SchemaName): object {
  return { title: `ferry ${name}`, ...z.toJSONSchema(schemas[name], { io: 'input' }) };
}
