import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDataConverter } from '../../src/codec/data-converter.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { resumeSignal, searchAttributes, taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import { development, findServer, startDevelopmentServer } from '../temporal-server.ts';
import type { Handle } from './harness.ts';
import { approveAll, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { activities, createWorld } from './world.ts';

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), 'ferry-codec-'));
const keysFile = join(directory, 'keys.json');
const cause = 'the disk of a very secret host is full';

let environment: TestWorkflowEnvironment;
let client: Client;
let worker: Worker;
let running: Promise<void>;
let codecServer: ChildProcess;
let endpoint: string;

beforeAll(async () => {
  writeFileSync(
    keysFile,
    JSON.stringify({ active: 'test-1', keys: { 'test-1': randomBytes(32).toString('base64') } }),
    { mode: 0o600 },
  );
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  environment = await startDevelopmentServer(Object.values(searchAttributes));
  const dataConverter = createDataConverter(keysFile);
  client = new Client({ connection: environment.connection, dataConverter });
  const { failureConverterPath } = dataConverter;
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: new URL('workflows.ts', import.meta.url).pathname,
    logger,
    ...(failureConverterPath === undefined ? {} : { failureConverterPath }),
  });
  worker = await Worker.create({
    connection: environment.nativeConnection,
    taskQueue,
    workflowBundle,
    activities,
    dataConverter,
  });
  running = worker.run();
  const [child, address] = await startCodecServer();
  codecServer = child;
  endpoint = address;
});
afterAll(async () => {
  codecServer.kill();
  worker.shutdown();
  await running;
  await environment.teardown();
  rmSync(directory, { recursive: true });
});

function startCodecServer(): Promise<[ChildProcess, string]> {
  const argv = ['src/client/bin.ts', 'codec-server', '--listen', '127.0.0.1:0'];
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, FERRY_CODEC_KEYS_FILE: keysFile },
  });
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      const [address] = /http:\/\/[\d.:]+/.exec(chunk.toString()) ?? [];
      if (address !== undefined) resolve([child, address]);
    });
    child.once('exit', (code) => reject(new Error(`the codec server ended with ${code ?? 'a signal'}`)));
  });
}

async function ferry(...argv: string[]): Promise<string> {
  const address = environment.connection.options.address;
  const { stdout } = await run(process.execPath, ['src/client/bin.ts', '--address', address, ...argv], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

async function temporal(...argv: string[]): Promise<string> {
  const address = environment.connection.options.address;
  const { stdout } = await run(findServer(development), [...argv, '--address', address], {
    maxBuffer: 256 * 1024 * 1024,
  });
  return stdout;
}

/** Everything of the history as the temporal CLI shows it, base64 opened where there is some. */
async function shown(workflowId: string, ...options: string[]): Promise<string> {
  const raw = await temporal('workflow', 'show', '--workflow-id', workflowId, '--output', 'json', ...options);
  const opened = [...raw.matchAll(/"([A-Za-z0-9+/]{8,}={0,2})"/g)].map(([, text = '']) =>
    Buffer.from(text, 'base64').toString('latin1'),
  );
  return [raw, ...opened].join('\n');
}

/** What of a plan must not be read on the server. The name of the cluster and of a machine that works is part of ids and identities. */
function tellingParts(plan: Plan): string[] {
  return [
    plan.digest,
    ...plan.transfers.map(({ source }) => source.path),
    ...plan.hosts.map(({ address }) => address),
    ...plan.nodes.add.map(({ ip4 }) => ip4),
    plan.author,
    cause,
  ];
}

describe('a migration with encrypted payloads', () => {
  const plan = planOf('sealed');
  let handle: Handle;

  it('keeps nothing of the plan, of failures or of what people said readable in its history', async () => {
    const world = createWorld(plan);
    world.fail('backupSecrets', 'NeedsHuman', { cause, untouched: 'everything', next: 'nothing' });
    handle = await client.workflow.start<typeof migrateNodes>('migrateNodes', {
      workflowId: `migrate-${plan.cluster}`,
      taskQueue,
      args: [plan],
    });
    await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li-of-the-night' });
    await untilGate(handle, 'open-downtime');
    const text = await shown(handle.workflowId);

    // Only the parts that are found are compared: a history is too long for a message.
    expect(['binary/encrypted', 'Encoded failure'].filter((part) => !text.includes(part))).toEqual([]);
    expect([...tellingParts(plan), 'li-of-the-night'].filter((part) => text.includes(part))).toEqual([]);
  });

  it('is read by ferry with the key ring', async () => {
    const status = JSON.parse(await ferry('--codec-keys-file', keysFile, 'status', '-o', 'json')) as object;
    const report = await ferry('--codec-keys-file', keysFile, 'report', '-o', 'json');

    expect(status).toMatchObject({ state: 'awaiting-gate', awaitingGate: 'open-downtime', planDigest: plan.digest });
    expect(report).toContain(plan.digest);
    expect(report).toContain('li-of-the-night');
    expect(report).toContain(cause);
  });

  it('tells ferry without the key ring which key is missing, and how to name it', async () => {
    const error = await ferry('report').catch((failure: unknown) => (failure as { stderr: string }).stderr);

    expect(error).toContain('encrypted with key "test-1"');
    expect(error).toContain('FERRY_CODEC_KEYS_FILE');
    expect(error).not.toContain('should not have happened');
  });

  it('is read by the temporal CLI through the codec server', async () => {
    const text = await shown(handle.workflowId, '--codec-endpoint', endpoint);

    expect([...tellingParts(plan), 'li-of-the-night'].filter((part) => !text.includes(part))).toEqual([]);
  });

  it('goes on with a gate that was approved by the plain temporal CLI, and with one through the codec server', async () => {
    const signal = ['workflow', 'signal', '--workflow-id', handle.workflowId, '--name', 'approve'];
    const input = (gate: string): string[] => ['--input', JSON.stringify({ gate, by: 'li', reason: 'window' })];
    await temporal(...signal, ...input('open-downtime'));
    await untilGate(handle, 'remove-nodes');
    await temporal(...signal, ...input('remove-nodes'), '--codec-endpoint', endpoint);
    await approveAll(handle, ['close-downtime']);

    expect(await handle.result()).toMatchObject({ outcome: 'migrated' });
  });
});
