import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Client } from '@temporalio/client';
import { workerKubeconfig } from '../worker-account.ts';
import type { Plan } from '../../src/plan/plan.ts';
import type { MigrationResult, MigrationStatus } from '../../src/workflows/messages.ts';
import { healthyMembers, membersOf, partsOfMaster } from './members.ts';
import {
  command,
  killWorker,
  must,
  photograph,
  signal,
  startWorker,
  temporalClient,
  treeDigest,
  until,
} from './operator.ts';

let directory: string;
let worker: ChildProcess;
let client: Client;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ferry-e2e-'));
  const account = await workerKubeconfig(process.env.KUBECONFIG ?? '', join(directory, 'worker.kubeconfig'));
  worker = startWorker(join(directory, 'worker.log'), account);
  client = await temporalClient();
});

afterAll(async () => {
  await killWorker(worker);
  await client.connection.close();
});

async function bootIds(plan: Plan): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  for (const host of plan.hostServices.hosts) {
    const argv = [process.execPath, 'lab/cli.ts', 'ssh', host, 'cat', '/proc/sys/kernel/random/boot_id'];
    ids.set(host, (await must(argv)).trim());
  }
  return ids;
}

interface Etcd {
  members: string[];
  healthy: number;
}

async function etcd(): Promise<Etcd> {
  return { members: await membersOf('old1'), healthy: await healthyMembers('old1') };
}

it('brings the old cluster back, its data never written, when the removal of its nodes is rejected', async () => {
  const planFile = join(directory, 'plan.json');
  await must(['ferry', 'plan', '--map', 'old1=new1,old2=new2,old3=new3', '-o', 'json', '--output-file', planFile]);
  // Host services come back by a reboot here, the control host among them: a hand's edit, then sealed.
  const drafted = JSON.parse(await readFile(planFile, 'utf8')) as Plan;
  drafted.hostServices.restart = 'reboot';
  await writeFile(planFile, JSON.stringify(drafted));
  expect((await command(['ferry', 'check', planFile])).stderr).toContain('digest');
  await must(['ferry', 'plan', '--seal', planFile]);
  const plan = JSON.parse(await readFile(planFile, 'utf8')) as Plan;
  const bootsBefore = await bootIds(plan);
  const workflowId = `migrate-${plan.cluster}`;
  const before = await photograph('anyshare');
  const etcdBefore = await etcd();
  const oldPaths = new Map(
    plan.hosts
      .filter(({ role }) => role === 'old')
      .map(({ name }) => [
        name,
        plan.transfers.filter(({ source }) => source.host === name).map(({ source }) => source.path),
      ]),
  );
  const digestOld = async (): Promise<string[]> => {
    const digests: string[] = [];
    for (const [host, paths] of oldPaths) digests.push(`${host} ${await treeDigest(host, paths)}`);
    return digests;
  };
  await must([
    ...['temporal', 'workflow', 'start', '--type', 'migrateNodes', '--task-queue', 'ferry'],
    ...['--workflow-id', workflowId, '--input-file', planFile],
  ]);
  await until(client, workflowId, 'gate open-downtime', (status) => status.awaitingGate === 'open-downtime', 600);
  await signal(workflowId, 'approve', {
    gate: 'open-downtime',
    by: 'li',
    reason: 'rehearsal',
    planDigest: plan.digest,
  });
  // From then on nothing writes on the old machines any more.
  const isGone = ({ phases }: MigrationStatus): boolean =>
    phases.some(({ name, state }) => name === 'uninstall' && state === 'done');
  await until(client, workflowId, 'the end of the uninstall', isGone, 900);
  await signal(workflowId, 'pause', { by: 'li', reason: 'photograph of the old data' });
  await until(client, workflowId, 'the pause', (status) => status.state === 'paused', 600);

  const quiet = await digestOld();
  await signal(workflowId, 'resume', { by: 'li' });
  await until(client, workflowId, 'gate remove-nodes', (status) => status.awaitingGate === 'remove-nodes', 900);
  const afterReinstall = await digestOld();
  const joined = await membersOf('old1');
  await signal(workflowId, 'reject', { gate: 'remove-nodes', by: 'wang', reason: 'rehearsal ends here' });
  // The platform's tool works through the first control-plane node by name and cannot take that one out; here it is a new one. So the new
  // nodes leave one by one before the last apply.
  const result = (await client.workflow.getHandle(workflowId).result()) as MigrationResult;
  const after = await photograph('anyshare');
  const etcdAfter = await etcd();
  const left: Record<string, string[]> = {};
  for (const { to } of plan.mapping) left[to] = await partsOfMaster(to);

  expect(result.outcome).toBe('rolled-back');
  const rebooted = await bootIds(plan);
  expect(rebooted.size).toBeGreaterThan(0);
  for (const [host, id] of rebooted) expect(id, host).not.toBe(bootsBefore.get(host));
  expect(afterReinstall).toEqual(quiet);
  expect(after).toEqual(before);
  // All six were masters; the new ones are as if they had never been.
  expect(joined).toEqual(['new1', 'new2', 'new3', 'old1', 'old2', 'old3']);
  expect(etcdBefore).toEqual({ members: ['old1', 'old2', 'old3'], healthy: 3 });
  expect(etcdAfter).toEqual(etcdBefore);
  expect(left).toEqual({ new1: [], new2: [], new3: [] });
  await must([process.execPath, 'lab/workloads/main.ts', 'ledger']);
  await writeFile(join(directory, 'result.json'), JSON.stringify(result));
}, 2_400_000);
