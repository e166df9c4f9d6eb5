import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { partFolder } from '../../lab/build/parts.ts';
import { serverArguments } from '../../src/client/dev.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import type { Handle } from '../workflow/harness.ts';
import { activities } from '../workflow/world.ts';

export interface Temporal {
  /** Of the server, as TEMPORAL_ADDRESS has it. */
  address: string;
  /** Of the Web UI. */
  ui: string;
  client: Client;
  start: (plan: Plan) => Promise<Handle>;
  stop: () => Promise<void>;
}

/** The development server exactly as `ferry dev` starts it, with its Web UI, and a worker with the real workflow in the model world. */
export async function startTemporal(): Promise<Temporal> {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  const folder = await mkdtemp(join(tmpdir(), 'ferry-temporal-'));
  const [port, uiPort] = await freePorts();
  const options = { ip: '127.0.0.1', port, uiPort };
  const server = spawn(
    join(partFolder('temporal'), 'temporal'),
    serverArguments(options, join(folder, 'temporal.db')),
    {
      stdio: 'ignore',
    },
  );
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const address = `127.0.0.1:${port}`;
  const ui = `http://127.0.0.1:${uiPort}`;
  const connection = await Connection.connect({ address, connectTimeout: '60s' });
  await answers(ui);
  const client = new Client({ connection });
  const native = await NativeConnection.connect({ address });
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: new URL('../workflow/workflows.ts', import.meta.url).pathname,
    logger,
  });
  const worker = await Worker.create({ connection: native, taskQueue, workflowBundle, activities });
  const running = worker.run();
  return {
    address,
    ui,
    client,
    start: (plan) =>
      client.workflow.start<typeof migrateNodes>('migrateNodes', {
        workflowId: `migrate-${plan.cluster}`,
        taskQueue,
        args: [plan],
      }),
    async stop() {
      worker.shutdown();
      await running;
      await native.close();
      await connection.close();
      server.kill('SIGTERM');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function answers(url: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const isThere = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (isThere) return;
    if (Date.now() > deadline) throw new Error(`${url} does not answer`);
    await sleep(200);
  }
}

/** Two ports that nobody listens on at this moment. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [ports[0] ?? 0, ports[1] ?? 0];
}
