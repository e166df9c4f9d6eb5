import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import type { MigrationStatus } from '../../src/workflows/messages.ts';

/* What an operator does on the night, with an operator's tools: ferry, temporal, kubectl, ssh. */

const run = promisify(execFile);
export const root = join(import.meta.dirname, '..', '..');

export interface Answer {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command of the lab's PATH; a non-zero exit is an answer, not an exception. */
export async function command(argv: readonly string[], env: Record<string, string> = {}): Promise<Answer> {
  const [file = '', ...args] = argv;
  try {
    const { stdout, stderr } = await run(file, args, {
      cwd: root,
      env: { ...process.env, ...env },
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const failed = error as { code?: number; stdout?: string; stderr?: string; message: string };
    if (typeof failed.code !== 'number') throw error;
    return { code: failed.code, stdout: failed.stdout ?? '', stderr: failed.stderr ?? '' };
  }
}

/** The same, and the command must succeed. */
export async function must(argv: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const answer = await command(argv, env);
  if (answer.code !== 0) {
    throw new Error(
      `${argv.join(' ')} exited ${answer.code}\n${answer.stdout.slice(-20_000)}\n${answer.stderr.slice(-20_000)}`,
    );
  }
  return answer.stdout;
}

export async function kubectl<T>(...args: string[]): Promise<T> {
  return JSON.parse(await must(['kubectl', ...args, '-o', 'json'])) as T;
}

/** A worker process of its own, so that it can be killed for real, under the account that deploy/kubernetes gives it. */
export function startWorker(logFile: string, kubeconfig: string): ChildProcess {
  const log = openSync(logFile, 'a');
  return spawn('ferry', ['worker', '--kubeconfig', kubeconfig], { cwd: root, stdio: ['ignore', log, log] });
}

/** kill -9 of the worker's node process, and waits until it is gone. */
export async function killWorker(worker: ChildProcess): Promise<void> {
  const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.kill('SIGKILL');
  await gone;
}

export async function temporalClient(): Promise<Client> {
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? '127.0.0.1:7233' });
  return new Client({ connection });
}

export async function statusOf(client: Client, workflowId: string): Promise<MigrationStatus> {
  return client.workflow.getHandle(workflowId).query<MigrationStatus>('status');
}

/** Polls the status until it is as wanted; a blocked phase that was not wanted fails at once, with its cause. */
export async function until(
  client: Client,
  workflowId: string,
  what: string,
  wanted: (status: MigrationStatus) => boolean,
  seconds: number,
): Promise<MigrationStatus> {
  const deadline = Date.now() + seconds * 1000;
  let last = 'no status was ever answered';
  while (Date.now() < deadline) {
    try {
      const status = await statusOf(client, workflowId);
      if (wanted(status)) return status;
      last = JSON.stringify({
        state: status.state,
        phase: status.phase,
        gate: status.awaitingGate,
        blocked: status.blocked,
      });
      if (status.state === 'blocked') throw new Blocked(`waiting for ${what}, but blocked: ${last}`);
    } catch (error) {
      // No worker answers queries for a moment after it was killed.
      if (error instanceof Blocked) throw error;
      last = String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error(`waited ${seconds} s for ${what}; last: ${last}`);
}

class Blocked extends Error {}

/** Decides the way the documents show it: by the plain temporal CLI. */
export async function signal(workflowId: string, name: string, input: object): Promise<void> {
  await must(['temporal', 'workflow', 'signal', '-w', workflowId, '--name', name, '--input', JSON.stringify(input)]);
}

interface ObjectList<T> {
  items: T[];
}

interface Workload {
  kind: string;
  metadata: { namespace: string; name: string; annotations?: Record<string, string> };
  spec: { replicas?: number; suspend?: boolean; template?: { spec: { nodeSelector?: Record<string, string> } } };
}

interface Volume {
  metadata: { name: string };
  spec: {
    local?: { path: string };
    claimRef?: { namespace: string; name: string };
    nodeAffinity?: { required: { nodeSelectorTerms: { matchExpressions: { values: string[] }[] }[] } };
  };
}

/** What of a cluster must be the same after a rollback: Secrets byte for byte, workloads, volumes with host and path, nodes. */
export async function photograph(applicationNamespace: string): Promise<Record<string, unknown>> {
  const secrets: Record<string, unknown> = {};
  for (const [namespace, name] of [
    ['proton', 'proton-cli-config'],
    ['resource', 'persist-component-manage-components'],
  ] as const) {
    secrets[name] = (await kubectl<{ data: Record<string, string> }>('-n', namespace, 'get', 'secret', name)).data;
  }
  const workloads = await kubectl<ObjectList<Workload>>(
    '-n',
    applicationNamespace,
    'get',
    'deployments,statefulsets,daemonsets,cronjobs',
  );
  const volumes = await kubectl<ObjectList<Volume>>('get', 'pv');
  const nodes = await kubectl<ObjectList<{ metadata: { name: string } }>>('get', 'nodes');
  return {
    secrets,
    workloads: workloads.items.map(({ kind, metadata, spec }) => ({
      kind,
      name: metadata.name,
      replicas: spec.replicas,
      suspend: spec.suspend,
      nodeSelector: spec.template?.spec.nodeSelector,
      breadcrumbs: Object.keys(metadata.annotations ?? {}).filter((key) => key.startsWith('ferry.migration/')),
    })),
    volumes: volumes.items.map(({ metadata, spec }) => ({
      name: metadata.name,
      path: spec.local?.path,
      claim: spec.claimRef?.name,
      host: spec.nodeAffinity?.required.nodeSelectorTerms[0]?.matchExpressions[0]?.values,
    })),
    nodes: nodes.items.map(({ metadata }) => metadata.name).sort(),
  };
}

/** Content digest of directories on a host: names, types, modes, owners, times, sizes and contents. */
export async function treeDigest(host: string, paths: readonly string[]): Promise<string> {
  const script =
    'for d in "$@"; do (cd "$d" && find . -printf "%P %y %m %U %G %s %T@ %l\\n" | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum); done | sha256sum';
  return (await must([process.execPath, 'lab/cli.ts', 'ssh', host, 'sh', '-c', script, 'sh', ...paths])).trim();
}
