import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { GateName } from '../../src/plan/plan.ts';
import type { MigrationStatus } from '../../src/workflows/messages.ts';
import { pauseSignal, taskQueue } from '../../src/workflows/messages.ts';
import { commandLines, documents } from '../documents/command-lines.ts';
import { development, findServer } from '../temporal-server.ts';
import type { Handle, Harness } from './harness.ts';
import { approve, startHarness, until, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

/*
 * Lines of the documents, typed as they stand: each at a moment of a migration for which the documents have it. Real programs, a real
 * server, the real workflow in the model world. Lines that need a platform and its machines are typed in test/cluster/documents.test.ts.
 */

const root = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'ferry-documents-'));
const environment: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: '1', FERRY_USER: 'li' };
let harness: Harness;

beforeAll(async () => {
  harness = await startHarness('development');
  const starter = join(directory, 'ferry');
  writeFileSync(starter, `#!/bin/sh\nexec ${process.execPath} ${join(root, 'src/client/bin.ts')} "$@"\n`, {
    mode: 0o755,
  });
  symlinkSync(findServer(development), join(directory, 'temporal'));
  environment['HOME'] = directory;
  environment['TEMPORAL_ADDRESS'] = harness.environment.address;
  environment['PATH'] = [directory, dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter);
});
afterAll(async () => {
  await harness.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Answer {
  code: number;
  said: string;
}

/** Types a line as somebody would who has said yes already; where it goes on for ever, Ctrl-C after that many seconds. */
function type(line: string, seconds?: number): Promise<Answer> {
  const confirmed = line.replace(/^(ferry (?:approve|reject|abort)) /, '$1 --yes ');
  const argv =
    seconds === undefined
      ? ['-c', confirmed]
      : ['-c', `exec timeout --preserve-status --signal=INT ${seconds} ${confirmed}`];
  return new Promise((resolve) => {
    execFile('bash', argv, { cwd: directory, env: environment }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, said: stdout + stderr });
    }).stdin?.end();
  });
}

/** A migration of that name and the files that the lines name; removes its nodes late where it is said. */
function prepare(cluster: string, removeNodesAfter: 'reinstall' | 'start-apps'): ReturnType<typeof planOf> {
  const { gates } = planOf('template');
  const change = { limits: { refreshSeconds: 86_400 }, gates: { ...gates, removeNodesAfter } };
  const plan = planOf(cluster, change);
  createWorld(plan);
  writeFileSync(join(directory, 'plan.yaml'), stringify(plan));
  writeFileSync(join(directory, 'plan.json'), JSON.stringify(plan));
  const [transfer] = plan.transfers;
  const hostNamed = (name?: string): unknown => plan.hosts.find((host) => host.name === name);
  const copy = { migration: cluster, transfer, mode: 'final' };
  const ends = { source: hostNamed(transfer?.source.host), destination: hostNamed(transfer?.destination.host) };
  writeFileSync(join(directory, 'copy.json'), JSON.stringify({ ...copy, ...ends }));
  return plan;
}

/** At a gate, with every one before it approved. */
async function reach(handle: Handle, gate: GateName, before: readonly GateName[]): Promise<void> {
  for (const name of before) await approve(handle, name);
  await untilGate(handle, gate);
}

interface Scene {
  /** Where the migration stands when the line is typed; absent: there is none. */
  at?: (handle: Handle) => Promise<unknown>;
  removeNodesAfter?: 'start-apps';
  /** Ctrl-C after so many seconds. */
  seconds?: number;
  code?: number;
  /** What the line is for; looked at until it is so. */
  then?: (status: MigrationStatus) => boolean;
}

const at = (gate: GateName, ...before: GateName[]): Scene => ({ at: (handle) => reach(handle, gate, before) });
const atOpen = at('open-downtime');
const atRemove = at('remove-nodes', 'open-downtime');
const atClose = at('close-downtime', 'open-downtime', 'remove-nodes');
const isApproved =
  (gate: GateName) =>
  ({ gates }: MigrationStatus): boolean =>
    gates.find(({ name }) => name === gate)?.state === 'approved';

/** By the beginning of a line, the first that fits. */
const scenes: readonly (readonly [RegExp, Scene])[] = [
  [/^ferry start /, { then: () => true }],
  [/^ferry watch\b/, { ...atOpen, seconds: 4, code: 130 }],
  [/^ferry (status|report)\b/, atOpen],
  [/^ferry tune --limit/, { ...atOpen, then: ({ decisions }) => decisions.some(({ counted }) => counted) }],
  [/^ferry approve open-downtime/, { ...atOpen, then: isApproved('open-downtime') }],
  [/^ferry approve remove-nodes/, { ...atRemove, then: isApproved('remove-nodes') }],
  [/^ferry reject remove-nodes/, { ...atRemove, then: ({ state }) => state === 'rolled-back' }],
  [/^ferry approve close-downtime/, { ...atClose, then: ({ state }) => state === 'completed' }],
  [/^ferry reject close-downtime/, { ...atClose, then: ({ decisions }) => decisions.at(-1)?.decision === 'reject' }],
  [/^ferry pause/, { ...atOpen, then: ({ state }) => state === 'paused' }],
  [
    /^(ferry resume|temporal workflow (signal|update execute) .*--name resume)/,
    {
      at: async (handle) => {
        await atOpen.at?.(handle);
        await handle.signal(pauseSignal, { by: 'li', reason: 'network trouble' });
        await until(handle, 'the pause', ({ state }) => state === 'paused');
      },
      then: ({ state }) => state === 'awaiting-gate',
    },
  ],
  [
    /^ferry abort .*--accept-losing-writes/,
    {
      at: (handle) => reach(handle, 'remove-nodes', ['open-downtime', 'close-downtime']),
      removeNodesAfter: 'start-apps',
      then: ({ state }) => state === 'rolled-back',
    },
  ],
  [/^ferry abort/, { ...atOpen, then: ({ state }) => state === 'rolled-back' }],
  [/^ferry (schema|completion)\b/, {}],
  [/^temporal workflow start --type migrateNodes/, { then: () => true }],
  [/^temporal workflow start --type replicateDirectory/, {}],
  [/^temporal workflow query/, atOpen],
  [/^temporal workflow list/, atOpen],
  [
    /^temporal workflow (signal|update execute) .*"gate":"open-downtime"/,
    { ...atOpen, then: isApproved('open-downtime') },
  ],
  [
    /^temporal workflow (signal|update execute) .*"gate":"remove-nodes"/,
    { ...atRemove, then: ({ state }) => state === 'rolled-back' },
  ],
  [
    /^temporal workflow (signal|update execute) .*--name abort/,
    { ...atOpen, then: ({ state }) => state === 'rolled-back' },
  ],
  [
    /^temporal workflow (signal|update execute)/,
    { ...atOpen, then: ({ decisions }) => decisions.some(({ counted }) => counted) },
  ],
];

/** Typed by another test, by the beginning of a line. */
const elsewhere: readonly (readonly [RegExp, string])[] = [
  [/^ferry (plan|check|diff|break-glass|copy|worker)\b/, 'test/cluster/documents.test.ts'],
  [/^ferry dev\b/, 'test/workflow/dev.test.ts'],
  [/^ferry codec-server\b|--codec-endpoint/, 'test/workflow/codec.test.ts'],
];

/** Lines that begin with one of both programs, without what they are piped into; the help's examples stand in the reference. */
const lines = [
  ...new Set(
    documents
      .flatMap((document) => commandLines(document))
      .map(({ line }) =>
        line
          .replace(/ +#.*$/, '')
          .replace(/ [|>] .*$/, '')
          .replaceAll('migrate-CLUSTER', 'migrate-prod'),
      )
      .filter((line) => /^(ferry|temporal) /.test(line) && !line.includes('…')),
  ),
].filter((line) => !elsewhere.some(([pattern]) => pattern.test(line)));

describe('lines of the documents', () => {
  it('are all known to this test', () => {
    const unknown = lines.filter((line) => !scenes.some(([pattern]) => pattern.test(line)));

    expect(lines.length).toBeGreaterThan(30);
    expect(unknown).toEqual([]);
    for (const [, file] of elsewhere) expect(existsSync(join(root, file))).toBe(true);
  });

  it.each(lines)('%s', async (line) => {
    const [, scene = {}] = scenes.find(([pattern]) => pattern.test(line)) ?? [];
    const cluster = /migrate-([\w-]+)/.exec(line)?.[1] ?? 'prod';
    const plan = prepare(cluster, scene.removeNodesAfter ?? 'reinstall');
    const { client } = harness.environment;
    const handle: Handle = client.workflow.getHandle(`migrate-${cluster}`);
    if (scene.at !== undefined) {
      await client.workflow.start('migrateNodes', { workflowId: handle.workflowId, taskQueue, args: [plan] });
      await scene.at(handle);
    }

    // A run has a name that no document can know.
    const typed = line.includes('--run-id')
      ? line.replace(/--run-id \S+/, `--run-id ${(await handle.describe()).runId}`)
      : line;
    // The list of what runs follows a moment behind.
    let answer: Answer = { code: -1, said: '' };
    await expect
      .poll(async () => (answer = await type(typed, scene.seconds)).said, { timeout: 20_000, interval: 500 })
      .not.toMatch(/no migration runs|several migrations run/);
    const { then } = scene;
    if (then !== undefined) await until(handle, line, then);
    await end(handle);

    expect(answer).toMatchObject({ code: scene.code ?? 0 });
  });
});

/** Leaves nothing that runs: the next line has to find its own migration. */
async function end(handle: Handle): Promise<void> {
  const { client } = harness.environment;
  await handle.terminate().catch(() => undefined);
  const anyRuns = async (): Promise<number> => (await client.workflow.count('ExecutionStatus = "Running"')).count;
  for await (const { workflowId } of client.workflow.list({ query: 'ExecutionStatus = "Running"' })) {
    await client.workflow
      .getHandle(workflowId)
      .terminate()
      .catch(() => undefined);
  }
  await expect.poll(anyRuns, { timeout: 20_000 }).toBe(0);
}

describe('a line that the documents should not have', () => {
  it('would be found', async () => {
    expect((await type('ferry approve open-downtime --reason "nobody asked"')).code).toBe(4);
    expect(scenes.some(([pattern]) => pattern.test('ferry migrate plan.yaml'))).toBe(false);
  });
});
