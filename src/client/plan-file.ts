import { readFileSync } from 'node:fs';
import type { Plan } from '../plan/plan.ts';
import { formatPlanErrors, parsePlan } from '../plan/validate.ts';
import { CliError } from './errors.ts';
import { readNamed } from './files.ts';

/** Reads a plan file (`-` is stdin), YAML or JSON. All errors of a plan that is not valid are told at once, and nothing else happens. */
export function loadPlan(file: string): Plan {
  const text = file === '-' ? readFileSync(0, 'utf8') : readPlanFile(file);
  const isJson = file.endsWith('.json') || text.trimStart().startsWith('{');
  const result = parsePlan(text, isJson ? 'json' : 'yaml');
  if (result.ok) return result.plan;
  const lines = formatPlanErrors(result.errors, file === '-' ? 'stdin' : file);
  const count = lines.length === 1 ? 'one error' : `${lines.length} errors`;
  throw new CliError(
    'usage',
    `${file === '-' ? 'what came on stdin' : file} is not a valid plan, ${count}; nothing was done\n${lines.map((line) => `  ${line}`).join('\n')}`,
    file === '-' ? 'correct it, then: ferry plan --seal FILE' : `correct it, then: ferry plan --seal ${file}`,
  );
}

function readPlanFile(file: string): string {
  try {
    return readNamed(file).toString();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new CliError(
      'notFound',
      `${file}: no such file; nothing was done`,
      `make a plan: ferry plan --map old1=new1 --output-file ${file}`,
      error,
    );
  }
}
