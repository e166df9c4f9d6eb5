import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { workerKubeconfig } from '../worker-account.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { exchangeOf, quorumSequence } from '../../src/plan/quorum.ts';
import type { MigrationResult } from '../../src/workflows/messages.ts';
import {
  freshInstalls,
  goThrough,
  healthyMembers,
  membersOf,
  nodeNames,
  partsOfMaster,
  withKubelet,
} from './members.ts';
import { killWorker, must, root, signal, startWorker, temporalClient, until } from './operator.ts';

/* All three masters of a stacked control plane are replaced, and with them the whole platform. */

interface Span {
  from: number;
  to: number;
}

interface Counted {
  requests: number;
  failed: number;
  longestGapSeconds: number;
  gaps: Span[];
  failures: (Span & { why: string })[];
}

interface HistoryEvent {
  eventId: string;
  eventTime: string;
  activityTaskScheduledEventAttributes?: { activityType: { name: string }; input?: unknown };
  activityTaskCompletedEventAttributes?: { scheduledEventId: string };
}

/** From the first moment when a load balancer no longer leads to a leaving master to the last Node that is deleted. */
function removalSpan(history: string): Span {
  const { events } = JSON.parse(history) as { events: HistoryEvent[] };
  const begun = (name: string): HistoryEvent[] =>
    events.filter((event) => event.activityTaskScheduledEventAttributes?.activityType.name === name);
  const [first] = begun('setBalancers');
  const last = begun('deleteNode').at(-1);
  const end = events.find(
    ({ activityTaskCompletedEventAttributes: done }) => done?.scheduledEventId === last?.eventId && done !== undefined,
  );
  return { from: Date.parse(first?.eventTime ?? ''), to: Date.parse(end?.eventTime ?? '') };
}

function within({ from, to }: Span): (span: Span) => boolean {
  return (span) => span.to >= from && span.from <= to;
}

/** Activities that were under way at some moment of a stretch of time. */
function underWay(history: string, { from, to }: Span): string[] {
  const { events } = JSON.parse(history) as { events: HistoryEvent[] };
  const ends = new Map(
    events.flatMap((event) => {
      const ended = event.activityTaskCompletedEventAttributes?.scheduledEventId;
      return ended === undefined ? [] : [[ended, Date.parse(event.eventTime)] as const];
    }),
  );
  return events.flatMap((event) => {
    const name = event.activityTaskScheduledEventAttributes?.activityType.name;
    const isThen = Date.parse(event.eventTime) <= to && (ends.get(event.eventId) ?? Infinity) >= from;
    return name !== undefined && isThen ? [`${name} (event ${event.eventId})`] : [];
  });
}

/** Failures of a stretch of time, and the longest time without success that reaches into it. */
function countedIn(span: Span, { gaps: long, failures }: Counted): { failed: number; longest: number } {
  const silent = long.filter(within(span)).map(({ from, to }) => (to - from) / 1000);
  return { failed: failures.filter(within(span)).length, longest: Math.max(0, ...silent) };
}

/** The masters that each step of the exchange waited for. */
async function stepsOf(workflowId: string): Promise<string[]> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  const seen: string[] = [];
  for (const { activityTaskScheduledEventAttributes: scheduled } of events ?? []) {
    const [payload] = scheduled?.input?.payloads ?? [];
    if (scheduled?.activityType?.name !== 'awaitMembers' || payload === undefined) continue;
    const { masters } = defaultPayloadConverter.fromPayload<{ masters: { name: string }[] }>(payload);
    const names = masters.map(({ name }) => name).join();
    if (seen.at(-1) !== names) seen.push(names);
  }
  return seen;
}

const lab = [process.execPath, 'lab/cli.ts'];
let directory: string;
let worker: ChildProcess;
let probe: ChildProcess | undefined;
let client: Client;
let plan: Plan;
let result: MigrationResult;
let gaps: { read: Counted; write: Counted };
/** From the first old machine that is switched off to the end of the probe. */
let oldOff: Span;
/** Masters whose members were awaited, one step of the exchange after the other. */
let steps: string[];
let history: string;
let installs: string[];
let running: string[];
let left: Record<string, string[]>;

/** Through the load balancer of a new machine; it counts from the first answer there, which comes when that machine has joined. */
function startProbe(): { child: ChildProcess; output: () => string } {
  const argv = ['test/e2e/api-probe.ts', process.env.KUBECONFIG ?? '', 'https://10.77.0.21:8443'];
  const child = spawn(process.execPath, argv, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  return { child, output: () => output };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ferry-e2e-'));
  const account = await workerKubeconfig(process.env.KUBECONFIG ?? '', join(directory, 'worker.kubeconfig'));
  worker = startWorker(join(directory, 'worker.log'), account);
  client = await temporalClient();
  const planFile = join(directory, 'plan.json');
  await must(['ferry', 'plan', '--map', 'old1=new1,old2=new2,old3=new3', '-o', 'json', '--output-file', planFile]);
  plan = JSON.parse(await readFile(planFile, 'utf8')) as Plan;
  await must(['ferry', 'check', planFile]);
  const workflowId = `migrate-${plan.cluster}`;
  const probing = startProbe();
  probe = probing.child;

  await must([
    ...['temporal', 'workflow', 'start', '--type', 'migrateNodes', '--task-queue', 'ferry'],
    ...['--workflow-id', workflowId, '--input-file', planFile],
  ]);
  for (const gate of ['open-downtime', 'remove-nodes', 'close-downtime'] as const) {
    await until(client, workflowId, `gate ${gate}`, (status) => status.awaitingGate === gate, 1500);
    await signal(workflowId, 'approve', { gate, by: 'li', reason: 'masters in turn' });
  }
  result = (await client.workflow.getHandle(workflowId).result()) as MigrationResult;
  history = await must(['temporal', 'workflow', 'show', '-w', workflowId, '-o', 'json']);
  steps = await stepsOf(workflowId);
  await goThrough('10.77.0.21', join(directory, 'kubeconfig'));
  const [old, young] = [plan.mapping.map(({ from }) => from), plan.mapping.map(({ to }) => to)];
  installs = await freshInstalls({ nodes: old, joined: young });
  running = await withKubelet(young);
  left = {};
  for (const name of old) left[name] = await partsOfMaster(name);
  oldOff = { from: Date.now(), to: Infinity };
  for (const name of old) await must([...lab, 'break', 'stop', name]);
  // Long enough for leases to run out and for health checks to fail, had anybody still relied on the old machines.
  await new Promise((resolve) => setTimeout(resolve, 15_000));
  const ended = new Promise((resolve) => probing.child.once('exit', resolve));
  probing.child.kill('SIGTERM');
  oldOff.to = Date.now();
  await ended;
  gaps = JSON.parse(probing.output()) as typeof gaps;
  for (const [kind, { requests, failed, longestGapSeconds, gaps: longest, failures }] of Object.entries(gaps)) {
    console.log(
      `API through the load balancer, ${kind}: ${failed} of ${requests} failed, ${longestGapSeconds} s at most`,
    );
    const longer = longest.filter(({ from, to }) => to - from > 1000);
    const spans = [...longer.map((gap) => ({ ...gap, why: 'no success' })), ...failures];
    for (const { from, to, why } of spans) {
      console.log(
        `  ${new Date(from).toISOString()} ${to - from} ms ${why}: ${underWay(history, { from, to }).join(', ')}`,
      );
    }
  }
  await mkdir(join(root, 'test-results'), { recursive: true });
  await writeFile(join(root, 'test-results', 'api-gap.json'), JSON.stringify(gaps));
  await writeFile(join(root, 'test-results', 'masters-history.json'), history);
}, 3_000_000);

afterAll(async () => {
  probe?.kill('SIGKILL');
  await killWorker(worker);
  await client.connection.close();
});

describe('three stacked masters replaced', () => {
  it('was planned as an exchange of masters, with the package on its way to the next control host', () => {
    expect(plan.controlPlane).toMatchObject({ etcd: 'stacked', masters: ['old1', 'old2', 'old3'] });
    expect(plan.transfers.map(({ id }) => id)).toContain('host-old1-package');
  });

  it('ends migrated, every phase done or skipped with a reason', () => {
    expect(result.outcome).toBe('migrated');
    for (const phase of result.status.phases) {
      expect(['done', 'skipped'], `${phase.name}: ${phase.detail ?? ''}`).toContain(phase.state);
    }
  });

  it('leaves exactly the new nodes, and members of etcd that are all healthy', async () => {
    expect(await nodeNames()).toEqual(['new1', 'new2', 'new3']);
    expect(await membersOf('new1')).toEqual(['new1', 'new2', 'new3']);
    expect(await healthyMembers('new1')).toBe(3);
  });

  it('went through the steps that the plan foretells, no two members at once', () => {
    expect(steps).toEqual(quorumSequence(exchangeOf(plan)!).map(({ members }) => members.join()));
  });

  it('never installs a new cluster over the old one', () => {
    expect(installs).toEqual([]);
    expect(running).toEqual(['new1', 'new2', 'new3']);
  });

  it('leaves nothing of a master on the old machines', () => {
    expect(left).toEqual({ old1: [], old2: [], old3: [] });
  });

  it('let the API answer all the time', () => {
    for (const { requests, failed, longestGapSeconds } of [gaps.read, gaps.write]) {
      expect(requests).toBeGreaterThan(1000);
      // Elections and a change of balancers may cost a request; an API that was gone costs hundreds.
      expect(failed).toBeLessThan(requests / 20);
      expect(longestGapSeconds).toBeLessThan(10);
    }
  });

  it('hides from clients that masters leave, one after the other', () => {
    const removal = removalSpan(history);
    expect(removal.to - removal.from).toBeGreaterThan(10_000);
    for (const [kind, count] of Object.entries(gaps)) {
      const { failed, longest } = countedIn(removal, count);
      console.log(
        `while masters leave, ${kind}: ${failed} failed (aim 0), ${longest} s without success at most (aim 1 s)`,
      );
      expect(failed, kind).toBe(0);
      // Half a second more than the aim: the processors of this lab are few, and everybody's.
      expect(longest, kind).toBeLessThanOrEqual(1.5);
    }
  });

  it('goes on answering with the old machines switched off, as if nothing had happened', () => {
    expect(oldOff.to - oldOff.from).toBeGreaterThan(15_000);
    for (const [kind, count] of Object.entries(gaps)) {
      const { failed, longest } = countedIn(oldOff, count);
      console.log(`with the old machines off, ${kind}: ${failed} failed, ${longest} s without success at most`);
      expect(failed, kind).toBe(0);
      expect(longest, kind).toBeLessThanOrEqual(1);
    }
  });

  it('loses no acknowledged record', async () => {
    await must([process.execPath, 'lab/workloads/main.ts', 'ledger']);
  });

  it('leaves machines that do not come back as nodes when they boot again', async () => {
    await must([...lab, 'break', 'start', 'old1']);
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    const listening = await must([...lab, 'ssh', 'old1', 'ss', '-Hltn', '( sport = :2379 or sport = :6443 )']);

    expect(await nodeNames()).toEqual(['new1', 'new2', 'new3']);
    expect(listening.trim()).toBe('');
  });

  it('can be shown months later', async () => {
    const html = join(directory, 'report.html');
    await must(['ferry', 'report', `migrate-${plan.cluster}`, '-o', 'html', '--output-file', html]);

    expect(await readFile(html, 'utf8')).toContain('masters: new1, new2, new3');
  });
});
