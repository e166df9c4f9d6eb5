import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { utils } from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { taskQueue } from '../../src/workflows/messages.ts';
import { development, findServer } from '../temporal-server.ts';
import { planOf } from './plans.ts';

const bin = join(import.meta.dirname, '..', '..', 'src', 'client', 'bin.ts');
const home = mkdtempSync(join(tmpdir(), 'ferry-dev-'));
const database = join(home, 'state', 'temporal.db');
let ports: number[] = [];
let env: NodeJS.ProcessEnv = {};

/** A port that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

beforeAll(async () => {
  ports = [await freePort(), await freePort()];
  // As Temporal's own installer leaves it: not on PATH.
  mkdirSync(join(home, '.temporalio', 'bin'), { recursive: true });
  symlinkSync(findServer(development), join(home, '.temporalio', 'bin', 'temporal'));
  writeFileSync(join(home, 'identity'), utils.generateKeyPairSync('ed25519').private, { mode: 0o600 });
  const kubeconfig = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'none' },
    clusters: [{ name: 'none', cluster: { server: 'https://127.0.0.1:1' } }],
    contexts: [{ name: 'none', context: { cluster: 'none', user: 'none' } }],
    users: [{ name: 'none', user: {} }],
  };
  writeFileSync(join(home, 'kubeconfig'), stringify(kubeconfig));
  env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: home, USER: 'li' };
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Dev {
  child: ChildProcess;
  ended: Promise<number | null>;
  said: () => string;
}

/** Server, Web UI and worker; ready when all three are there. */
async function startDev(): Promise<Dev> {
  const places = ['--port', String(ports[0]), '--ui-port', String(ports[1]), '--database', database];
  const means = ['--ssh-identity', join(home, 'identity'), '--kubeconfig', join(home, 'kubeconfig')];
  const child = spawn(process.execPath, [bin, 'dev', ...places, ...means], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => (said += part));
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const uiAnswers = (): Promise<boolean> =>
    fetch(`http://127.0.0.1:${ports[1]}`).then(
      (answer) => answer.ok,
      () => false,
    );
  await expect.poll(uiAnswers, { timeout: 60_000 }).toBe(true);
  await expect.poll(workersListening, { timeout: 60_000 }).toBeGreaterThan(0);
  return { child, ended, said: () => said };
}

async function asked<T>(question: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: `127.0.0.1:${ports[0]}` });
  try {
    return await question(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

function workersListening(): Promise<number> {
  return asked(async (client) => {
    const { pollers } = await client.workflowService.describeTaskQueue({
      namespace: 'default',
      taskQueue: { name: taskQueue },
    });
    return pollers.filter(({ identity }) => identity?.startsWith('ferry/')).length;
  });
}

describe('ferry dev', () => {
  it('is server, Web UI and worker in one command, and keeps its history over a restart', async () => {
    const first = await startDev();
    const file = join(home, 'plan.yaml');
    writeFileSync(file, stringify(planOf('kept')));
    const address = `127.0.0.1:${ports[0]}`;
    const started = await promisify(execFile)(process.execPath, [bin, 'start', file, '--address', address], { env });
    const { config } = await asked((client) => client.workflowService.describeNamespace({ namespace: 'default' }));
    // What a wrapper passes on of the terminal's Ctrl-C comes a moment after that itself.
    first.child.kill('SIGINT');
    await sleep(20);
    first.child.kill('SIGINT');
    const code = await first.ended;

    const second = await startDev();
    const kept = await asked((client) => client.workflow.getHandle('migrate-kept').describe());
    await asked((client) => client.workflow.getHandle('migrate-kept').terminate());
    second.child.kill('SIGTERM');
    const codeAgain = await second.ended;

    expect(first.said()).toContain(`Web UI http://127.0.0.1:${ports[1]}   history in ${database}`);
    expect(first.said()).toContain(`export TEMPORAL_ADDRESS=${address}`);
    expect(started.stdout).toContain('migrate-kept');
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(90 * 86_400);
    expect(kept.status.name).toBe('RUNNING');
    expect([code, codeAgain]).toEqual([0, 0]);
  });
});
