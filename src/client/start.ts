import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import type { Plan } from '../plan/plan.ts';
import { taskQueue as defaultTaskQueue } from '../workflows/messages.ts';
import type { migrateNodes } from '../workflows/migrate-nodes.ts';
import { pc, pcError } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { CliError } from './errors.ts';
import { pad, print, width } from './output.ts';
import { isUnserved } from './own-worker.ts';
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
      if (options.quiet !== true && (await isUnserved(client, options.taskQueue))) {
        process.stderr.write(
          `${pcError.yellow('No worker serves task queue')} ${options.taskQueue}${pcError.yellow(': nothing happens until one does.')}\nNext: ferry worker${options.taskQueue === defaultTaskQueue ? '' : ` --task-queue ${options.taskQueue}`}\n`,
        );
      }
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
  return [
    `Started ${pc.bold(workflowId)} (plan ${plan.digest.slice(0, 19)}…).`,
    'It checks, prewarms images, saves the Secrets and copies online; nothing stops before gate open-downtime is approved.',
    '',
    ...[
      [`ferry watch ${workflowId}`, 'follow it'],
      [`ferry status ${workflowId}`, 'look once'],
      [`ferry approve open-downtime ${workflowId} --reason "…"`, 'when the window opens'],
      [`ferry abort ${workflowId} --reason "…"`, 'go back'],
    ].map(([command = '', what = ''], _index, lines) => {
      const columns = Math.max(...lines.map(([longest = '']) => width(longest)));
      return `  ${pad(command, columns)}  ${pc.dim(what)}`;
    }),
  ].join('\n');
}
