import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import type { Plan } from '../plan/plan.ts';
import type { migrateNodes } from '../workflows/migrate-nodes.ts';
import { pc } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { CliError } from './errors.ts';
import { print } from './output.ts';
import { loadPlan } from './plan-file.ts';
import { refuseMissingAttributes } from './search-attributes.ts';

interface StartOptions extends GlobalOptions {
  output: OutputFormat;
  taskQueue: string;
}

/** `ferry start`. */
export async function startMigration(file: string, options: StartOptions): Promise<void> {
  const plan = loadPlan(file);
  await withClient(options, async (client) => {
    await refuseMissingAttributes(client);
    const workflowId = `migrate-${plan.cluster}`;
    try {
      const handle = await client.workflow.start<typeof migrateNodes>('migrateNodes', {
        workflowId,
        taskQueue: options.taskQueue,
        args: [plan],
        workflowIdConflictPolicy: 'FAIL',
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        staticSummary: summaryOf(plan),
      });
      const started = { workflowId, runId: handle.firstExecutionRunId, planDigest: plan.digest };
      print(started, options.output, () => describeStart(workflowId, plan, options.quiet ?? false));
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      throw new CliError(
        'refused',
        `a migration of ${plan.cluster} runs already (${workflowId}); nothing was started`,
        `ferry watch ${workflowId}`,
        error,
      );
    }
  });
}

function summaryOf(plan: Plan): string {
  const pairs = plan.mapping.map(({ from, to }) => `${from} → ${to}`).join(', ');
  return `${plan.cluster}: ${pairs}`.slice(0, 190);
}

function describeStart(workflowId: string, plan: Plan, quiet: boolean): string {
  if (quiet) return workflowId;
  const reject = `ferry abort ${workflowId} --reason "…"`;
  return [
    `Started ${pc.bold(workflowId)} (plan ${plan.digest.slice(0, 19)}…).`,
    'It checks, prewarms images, saves the Secrets and copies online; nothing stops before gate open-downtime is approved.',
    '',
    `  ferry watch ${workflowId}      follow it`,
    `  ferry status ${workflowId}     look once`,
    `  ferry approve open-downtime ${workflowId} --reason "…"     when the window opens`,
    `  ${reject}     go back`,
  ].join('\n');
}
