import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Client } from '@temporalio/client';
import { parse } from 'yaml';
import { workerKubeconfig } from '../worker-account.ts';
import type { Plan } from '../../src/plan/plan.ts';
import type { MigrationResult, MigrationStatus } from '../../src/workflows/messages.ts';
import { killWorker, kubectl, must, photograph, signal, startWorker, temporalClient, until } from './operator.ts';

let directory: string;
let log: string;
let worker: ChildProcess;
let client: Client;
let plan: Plan;
let workflowId: string;
let before: Record<string, unknown>;
let secretValues: string[];
let result: MigrationResult;
let history: string;

const removing = (status: MigrationStatus): boolean => status.phase === 'remove-nodes' && status.state === 'running';

/** Every string of a document that stands under a key that names a secret; the lab's short ones (`yes`) are words that stand everywhere. */
function secretsOf(value: unknown, key = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => secretsOf(item, key));
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).flatMap(([name, child]) => secretsOf(child, name));
  }
  return /passw(or)?d|admin_key|key-data/i.test(key) && typeof value === 'string' && value.length >= 8 ? [value] : [];
}

async function readSecretValues(): Promise<string[]> {
  const values: string[] = [];
  for (const [namespace, name] of [
    ['proton', 'proton-cli-config'],
    ['resource', 'persist-component-manage-components'],
  ] as const) {
    const { data } = await kubectl<{ data: Record<string, string> }>('-n', namespace, 'get', 'secret', name);
    for (const text of Object.values(data)) values.push(...secretsOf(parse(Buffer.from(text, 'base64').toString())));
  }
  return [...new Set(values)];
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ferry-e2e-'));
  log = join(directory, 'worker.log');
  const account = await workerKubeconfig(process.env.KUBECONFIG ?? '', join(directory, 'worker.kubeconfig'));
  worker = startWorker(log, account);
  client = await temporalClient();
  const planFile = join(directory, 'plan.json');
  await must(['ferry', 'plan', '--map', 'old1=new1,old2=new2,old3=new3', '-o', 'json', '--output-file', planFile]);
  plan = JSON.parse(await readFile(planFile, 'utf8')) as Plan;
  workflowId = `migrate-${plan.cluster}`;
  before = await photograph('anyshare');
  secretValues = await readSecretValues();
  await must([process.execPath, 'lab/cli.ts', 'break', 'apply-flake', '1']);
  await must([
    ...['temporal', 'workflow', 'start', '--type', 'migrateNodes', '--task-queue', 'ferry'],
    ...['--workflow-id', workflowId, '--input-file', planFile],
  ]);

  await until(
    client,
    workflowId,
    'a copy under way',
    (status) => status.phase === 'replicate' && status.transfers.some(({ state }) => state === 'copying'),
    600,
  );
  await killWorker(worker);
  worker = startWorker(log, account);
  await until(client, workflowId, 'gate open-downtime', (status) => status.awaitingGate === 'open-downtime', 900);
  await signal(workflowId, 'approve', { gate: 'open-downtime', by: 'li', reason: 'window', planDigest: plan.digest });
  await until(client, workflowId, 'the uninstall', (status) => status.phase === 'uninstall', 600);
  await killWorker(worker);
  worker = startWorker(log, account);
  await until(client, workflowId, 'gate remove-nodes', (status) => status.awaitingGate === 'remove-nodes', 1200);
  await signal(workflowId, 'approve', { gate: 'remove-nodes', by: 'wang', reason: 'placement is right' });
  await until(client, workflowId, 'the removal', removing, 120);
  await until(client, workflowId, 'gate close-downtime', (status) => status.awaitingGate === 'close-downtime', 1200);
  await signal(workflowId, 'approve', { gate: 'close-downtime', by: 'li', reason: 'accepted' });
  result = (await client.workflow.getHandle(workflowId).result()) as MigrationResult;
  history = await must(['temporal', 'workflow', 'show', '-w', workflowId, '-o', 'json']);
}, 3_000_000);

afterAll(async () => {
  await killWorker(worker);
  await client.connection.close();
});

describe('a whole migration with a flaky removal and a worker killed in replicate and in uninstall', () => {
  it('ends migrated, every phase done or skipped with a reason', () => {
    expect(result.outcome).toBe('migrated');
    for (const phase of result.status.phases) {
      expect(['done', 'skipped'], `${phase.name}: ${phase.detail ?? ''}`).toContain(phase.state);
    }
  });

  it('leaves exactly the new nodes, and every volume on the host of its ordinal', async () => {
    const after = await photograph('anyshare');

    expect(after.nodes).toEqual(plan.nodes.add.map(({ name }) => name).sort());
    const hostOf = new Map(
      (after.volumes as { name: string; host: string[] }[]).map(({ name, host }) => [name, host[0]] as const),
    );
    for (const replica of plan.components.flatMap(({ replicas }) => replicas)) {
      expect(hostOf.get(replica.pv), replica.pv).toBe(replica.to);
    }
  });

  it('gives applications back as they were', async () => {
    const after = await photograph('anyshare');

    expect(after.workloads).toEqual(before.workloads);
  });

  it('loses no acknowledged record', async () => {
    await must([process.execPath, 'lab/workloads/main.ts', 'ledger']);
  });

  it('needed a second try for the removal, and shows it', () => {
    expect(history).toContain('kubesuite');
  });

  it('records who opened each gate, when and why', () => {
    const counted = result.status.decisions.filter(({ counted, decision }) => counted && decision === 'approve');

    expect(counted.map(({ gate, by, reason }) => ({ gate, by, reason }))).toEqual([
      { gate: 'open-downtime', by: 'li', reason: 'window' },
      { gate: 'remove-nodes', by: 'wang', reason: 'placement is right' },
      { gate: 'close-downtime', by: 'li', reason: 'accepted' },
    ]);
  });

  it('measured the downtime', () => {
    expect(result.status.downtime.spentSeconds).toBeGreaterThan(0);
    expect(result.status.downtime.endedAt).toBeDefined();
  });

  it('verified every transfer and keeps the digest', () => {
    for (const transfer of result.status.transfers) {
      expect(transfer.state, transfer.id).toBe('verified');
      expect(transfer.digest, transfer.id).toMatch(/^sha256:/);
    }
  });

  it('wrote no Secret value into history, nor into the log of the worker', async () => {
    const workerLog = await readFile(log, 'utf8');
    const decoded = [...history.matchAll(/"data":\s*"([A-Za-z0-9+/=]+)"/g)]
      .map(([, data]) => Buffer.from(data ?? '', 'base64').toString())
      .join('\n');

    expect(secretValues.length).toBeGreaterThan(4);
    const leaked = secretValues.filter((value) => [history, decoded, workerLog].some((text) => text.includes(value)));
    expect(leaked).toEqual([]);
  });

  it('makes a report from history alone', async () => {
    const html = join(directory, 'report.html');
    await must(['ferry', 'report', workflowId, '-o', 'html', '--output-file', html]);

    expect(await readFile(html, 'utf8')).toContain('placement is right');
  });
});
