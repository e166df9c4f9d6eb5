import { z } from 'zod';
import type { Plan } from '../plan/plan.ts';
import { windowPhases } from '../plan/plan.ts';
import { CliError } from './errors.ts';
import { readNamed } from './files.ts';

/** What is read of a report: `ferry report -o json`. */
const reportSchema = z.looseObject({
  workflowId: z.string(),
  phases: z.array(
    z.looseObject({
      name: z.string(),
      startedAt: z.iso.datetime().optional(),
      doneAt: z.iso.datetime().optional(),
    }),
  ),
});

/**
 * Seconds that the phases of the window took in an earlier migration, from its report: what the plan of the next one may expect. It may
 * have been rolled back afterwards. A phase that was not done teaches nothing; one that stood still for people counts with all its time.
 */
export function secondsOfRehearsal(file: string): Plan['downtime']['expectedSeconds'] {
  const report = reportSchema.safeParse(parseJson(readNamed(file).toString()));
  if (!report.success) throw noReport(file, 'it has no phases');
  const { workflowId, phases } = report.data;
  const learned = windowPhases.flatMap((name) => {
    const { startedAt, doneAt } = phases.find((phase) => phase.name === name) ?? {};
    if (startedAt === undefined || doneAt === undefined) return [];
    return [[name, Math.ceil((Date.parse(doneAt) - Date.parse(startedAt)) / 1000)] as const];
  });
  if (learned.length === 0) throw noReport(file, `no phase of the window was done in ${workflowId}`);
  return Object.fromEntries(learned);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function noReport(file: string, why: string): CliError {
  return new CliError(
    'usage',
    `${file} is not the report of a migration to learn from: ${why}; nothing was done`,
    `ferry report ID -o json --output-file ${file}`,
  );
}
