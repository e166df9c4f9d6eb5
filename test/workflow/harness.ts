import type { WorkflowHandle } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { rememberTries } from '../../src/activities/earlier-tries.ts';
import type { GateName, Plan } from '../../src/plan/plan.ts';
import type { MigrationStatus } from '../../src/workflows/messages.ts';
import { approveSignal, searchAttributes, statusQuery, taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import { startDevelopmentServer, startTimeSkippingServer } from '../temporal-server.ts';
import { activities } from './world.ts';

export type Handle = WorkflowHandle<typeof migrateNodes>;

export interface Harness {
  environment: TestWorkflowEnvironment;
  start: (plan: Plan) => Promise<Handle>;
  /** The present run of a migration, after any number of fresh histories. */
  latest: (handle: Handle) => Handle;
  stop: () => Promise<void>;
}

interface HarnessOptions {
  /** Take the places of those of the model world. */
  activities?: Partial<typeof activities>;
  /** Milliseconds for which a heartbeat may be held back; the product's worker holds them for five seconds. */
  heartbeatThrottle?: number;
  /** Files whose interceptors stand around the workflows. */
  workflowInterceptorModules?: string[];
}

/**
 * A real server and one worker with the workflow and the model world. `time-skipping` passes days in moments; `development` keeps the
 * exact rules of cancellation (the time-skipping one loses its way when an activity is cancelled before a worker took it).
 */
export async function startHarness(
  server: 'time-skipping' | 'development',
  { heartbeatThrottle = 50, workflowInterceptorModules = [], ...own }: HarnessOptions = {},
): Promise<Harness> {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  const environment = await (server === 'development'
    ? startDevelopmentServer(Object.values(searchAttributes))
    : startTimeSkippingServer());
  if (server === 'time-skipping') {
    await registerSearchAttributes(environment);
  }
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: new URL('workflows.ts', import.meta.url).pathname,
    workflowInterceptorModules,
    logger,
  });
  const worker = await Worker.create({
    connection: environment.nativeConnection,
    taskQueue,
    workflowBundle,
    activities: { ...activities, ...own.activities },
    interceptors: { activity: [rememberTries] },
    maxHeartbeatThrottleInterval: heartbeatThrottle,
    defaultHeartbeatThrottleInterval: heartbeatThrottle,
  });
  const running = worker.run();
  return {
    environment,
    start: (plan) =>
      environment.client.workflow.start<typeof migrateNodes>('migrateNodes', {
        workflowId: `migrate-${plan.cluster}`,
        taskQueue,
        args: [plan],
      }),
    latest: (handle) => environment.client.workflow.getHandle<typeof migrateNodes>(handle.workflowId),
    async stop() {
      worker.shutdown();
      await running;
      await environment.teardown();
    },
  };
}

async function registerSearchAttributes(environment: TestWorkflowEnvironment): Promise<void> {
  const types = { KEYWORD: 2, DATETIME: 6 };
  await environment.connection.operatorService.addSearchAttributes({
    namespace: environment.namespace ?? 'default',
    searchAttributes: Object.fromEntries(Object.values(searchAttributes).map((key) => [key.name, types[key.type]])),
  });
}

export function statusOf(handle: Handle): Promise<MigrationStatus> {
  return handle.query(statusQuery);
}

/** Asks until the status is as wanted; the message of a timeout shows what it was instead. */
export async function until(
  handle: Handle,
  what: string,
  isSo: (status: MigrationStatus) => boolean,
): Promise<MigrationStatus> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const status = await statusOf(handle);
    if (isSo(status)) {
      return status;
    }
    if (Date.now() > deadline) {
      const { state, phase, awaitingGate, blocked } = status;
      throw new Error(`never came to ${what}: ${JSON.stringify({ state, phase, awaitingGate, blocked })}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export function untilGate(handle: Handle, gate: GateName): Promise<MigrationStatus> {
  return until(handle, `gate ${gate}`, (status) => status.awaitingGate === gate);
}

export function untilBlocked(handle: Handle): Promise<MigrationStatus> {
  return until(handle, 'blocked', (status) => status.blocked !== undefined);
}

/** Waits for a gate and approves it. */
export async function approve(handle: Handle, gate: GateName, by = 'li'): Promise<void> {
  await untilGate(handle, gate);
  await handle.signal(approveSignal, { gate, by, reason: 'looks good' });
}

/** Approves gates as they come, in this order. */
export async function approveAll(
  handle: Handle,
  gates: readonly GateName[] = ['open-downtime', 'remove-nodes', 'close-downtime'],
): Promise<void> {
  for (const gate of gates) {
    await approve(handle, gate);
  }
}
