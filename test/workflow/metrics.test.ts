import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { Context } from '@temporalio/activity';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prometheusAt, serveMetrics } from '../../src/metrics.ts';
import { abortSignal, searchAttributes, taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import { startDevelopmentServer } from '../temporal-server.ts';
import { namedMetrics, rules, rulesFile } from '../unit/metrics/named.ts';
import type { Handle } from './harness.ts';
import { approve, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { activities, createWorld } from './world.ts';

const run = promisify(execFile);

/** Every series that was scraped, by name, with its labels and value. */
type Scrape = Map<string, { labels: Record<string, string>; value: number }[]>;

let environment: TestWorkflowEnvironment;
let worker: Worker;
let running: Promise<void>;
let served: Promise<void>;
let address: string;
const ended = new AbortController();
const troubles: string[] = [];
let letCopiesGo: () => void = () => undefined;
const copiesMayGo = new Promise<void>((resolve) => {
  letCopiesGo = resolve;
});

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

beforeAll(async () => {
  address = await freeAddress();
  const logger = new DefaultLogger('ERROR');
  const runtime = Runtime.install({
    logger,
    telemetryOptions: {
      logging: { forward: {}, filter: { core: 'ERROR', other: 'ERROR' } },
      metrics: prometheusAt(address),
    },
  });
  environment = await startDevelopmentServer(Object.values(searchAttributes));
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: new URL('workflows.ts', import.meta.url).pathname,
    logger,
  });
  worker = await Worker.create({
    connection: environment.nativeConnection,
    taskQueue,
    workflowBundle,
    maxHeartbeatThrottleInterval: 50,
    defaultHeartbeatThrottleInterval: 50,
    activities: {
      ...activities,
      copyOnce: async (request: Parameters<typeof activities.copyOnce>[0]) => {
        const beat = setInterval(() => {
          const progress = { pass: 1, step: 'copying', bytes: 400, total: 1000, files: 3, bytesPerSecond: 77 };
          Context.current().heartbeat(progress);
        }, 100);
        await copiesMayGo;
        clearInterval(beat);
        return activities.copyOnce(request);
      },
    },
  });
  running = worker.run();
  served = serveMetrics({
    client: environment.client,
    meter: runtime.metricMeter,
    taskQueue,
    interval: 200,
    onTrouble: (message) => troubles.push(message),
    signal: ended.signal,
  });
});
afterAll(async () => {
  ended.abort();
  await served;
  worker.shutdown();
  await running;
  await environment.teardown();
});

async function scrape(): Promise<Scrape> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const series: Scrape = new Map();
  for (const [, name = '', labels = '', value = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = '', content = '']) => [label, content]);
    const all = series.get(name) ?? [];
    all.push({ labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) });
    series.set(name, all);
  }
  return series;
}

/** Scrapes until the one series with these labels has the value. */
async function untilScraped(name: string, labels: Record<string, string>, wanted: number): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = (await scrape())
      .get(name)
      ?.find((series) => Object.entries(labels).every(([label, text]) => series.labels[label] === text));
    if (found?.value === wanted) return;
    if (Date.now() > deadline)
      throw new Error(`${name} ${JSON.stringify(labels)} is ${found?.value ?? 'missing'}, not ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function start(cluster: string): Promise<Handle> {
  return environment.client.workflow.start<typeof migrateNodes>('migrateNodes', {
    workflowId: `migrate-${cluster}`,
    taskQueue,
    args: [planOf(cluster)],
  });
}

describe('the metrics of a worker', () => {
  it('follow a migration through copying, a gate and its end', async () => {
    const cluster = 'measured';
    createWorld(planOf(cluster));
    const handle = await start(cluster);
    await untilScraped('ferry_transfer_bytes_per_second', { cluster, transfer: 'redis-0' }, 77);
    await untilScraped('ferry_transfer_pass_bytes', { cluster, transfer: 'redis-0' }, 400);
    letCopiesGo();
    await untilGate(handle, 'open-downtime');
    await untilScraped('ferry_gate_awaiting', { cluster, gate: 'open-downtime' }, 1);
    await untilScraped('ferry_transfer_bytes_per_second', { cluster, transfer: 'redis-0' }, 0);
    await handle.signal(abortSignal, { by: 'li', reason: 'seen enough' });
    await handle.result();
    await untilScraped('ferry_migration_running', { cluster }, 0);
    await untilScraped('ferry_gate_awaiting', { cluster, gate: 'open-downtime' }, 0);
    await untilScraped('ferry_migration_state', { cluster, state: 'rolled-back' }, 1);
  });

  it('show a block, and no longer when the migration was terminated in it', async () => {
    const cluster = 'measured-block';
    const world = createWorld(planOf(cluster));
    world.fail('backupSecrets', 'NeedsHuman', { cause: 'full', untouched: 'everything', next: 'nothing' });
    const handle = await start(cluster);
    await untilBlocked(handle);
    await untilScraped('ferry_migration_blocked', { cluster }, 1);
    await handle.terminate('seen enough');
    await untilScraped('ferry_migration_blocked', { cluster }, 0);
    await untilScraped('ferry_migration_running', { cluster }, 0);
  });

  it('tell on of the downtime of one that was terminated in it, until people have deleted it', async () => {
    const cluster = 'measured-broken';
    createWorld(planOf(cluster));
    const handle = await start(cluster);
    await untilGate(handle, 'open-downtime');
    await untilScraped('ferry_migration_broken_off', { cluster }, 0);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    await untilScraped('ferry_downtime_running', { cluster }, 1);
    await handle.terminate('seen enough');
    await untilScraped('ferry_migration_broken_off', { cluster }, 1);
    const seconds = (await scrape()).get('ferry_downtime_seconds')?.find(({ labels }) => labels['cluster'] === cluster);
    await untilScraped('ferry_downtime_seconds', { cluster }, Math.floor(seconds?.value ?? 0) + 2);
    await untilScraped('ferry_downtime_running', { cluster }, 1);
    await untilScraped('ferry_migration_running', { cluster }, 0);
    await untilScraped('ferry_gate_awaiting', { cluster, gate: 'remove-nodes' }, 0);
    const { namespace } = environment.client.options;
    await environment.client.workflowService.deleteWorkflowExecution({
      namespace,
      workflowExecution: { workflowId: handle.workflowId },
    });
    await untilScraped('ferry_migration_broken_off', { cluster }, 0);
    await untilScraped('ferry_downtime_running', { cluster }, 0);
  });

  it('have every name that the dashboard and the alerts use', async () => {
    // A task that fails is needed for the counter of failed tasks.
    const stray = await environment.client.workflow.start('noSuchWorkflow', { workflowId: 'stray', taskQueue });
    await expect
      .poll(async () => [...(await scrape()).keys()], { timeout: 30_000 })
      .toContain('temporal_workflow_task_execution_failed_total');
    await stray.terminate();
    const scraped = await scrape();

    expect(namedMetrics.filter((name) => !scraped.has(name))).toEqual([]);
    expect(troubles).toEqual([]);
  });

  it('have the labels that the dashboard and the alerts group and choose by', async () => {
    const scraped = await scrape();
    const labelled: [string, string][] = [
      ['temporal_worker_task_slots_available', 'worker_type'],
      ['temporal_activity_execution_failed_total', 'activity_type'],
      ['temporal_workflow_task_execution_failed_total', 'workflow_type'],
      ['temporal_request_latency_bucket', 'operation'],
      ['ferry_transfer_pass', 'transfer'],
      ['ferry_gate_awaiting', 'gate'],
      ['ferry_phase_seconds', 'phase'],
    ];

    for (const [name, label] of labelled) expect(scraped.get(name)?.[0]?.labels, name).toHaveProperty(label);
    const workers = scraped.get('temporal_worker_task_slots_available')?.map(({ labels }) => labels['worker_type']);
    expect(workers).toContain('ActivityWorker');
  });
});

/** promtool of PATH or of the cache, where it comes to from Debian's package. */
async function promtool(): Promise<string> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    if (existsSync(join(directory, 'promtool'))) return join(directory, 'promtool');
  }
  const base =
    process.env['LAB_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'proton-ferry');
  const cache = join(base, 'promtool');
  const tool = join(cache, 'usr', 'bin', 'promtool');
  if (existsSync(tool)) return tool;
  mkdirSync(cache, { recursive: true });
  await run('apt-get', ['download', '-q', 'prometheus'], { cwd: cache }).catch(async () => {
    await run('apt-get', ['update', '-qq']);
    await run('apt-get', ['download', '-q', 'prometheus'], { cwd: cache });
  });
  const archive = readdirSync(cache).find((name) => name.endsWith('.deb')) ?? '';
  await run('dpkg', ['-x', join(cache, archive), cache]);
  return tool;
}

/** For each alert, series that it must speak about, and the labels of what it says. */
const firing: Record<string, { series: Record<string, string>; labels: Record<string, string> }> = {
  FerryMigrationBlocked: { series: { 'ferry_migration_blocked{cluster="a"}': '1' }, labels: { cluster: 'a' } },
  FerryMigrationBrokenOff: { series: { 'ferry_migration_broken_off{cluster="a"}': '1' }, labels: { cluster: 'a' } },
  FerryGateWaitsInDowntime: {
    series: { 'ferry_gate_awaiting{cluster="a",gate="g"}': '1', 'ferry_downtime_running{cluster="a"}': '1' },
    labels: { cluster: 'a', gate: 'g' },
  },
  FerryGateWaits: { series: { 'ferry_gate_awaiting{cluster="a",gate="g"}': '1' }, labels: { cluster: 'a', gate: 'g' } },
  FerryDowntimeOverBudget: {
    series: {
      'ferry_downtime_seconds{cluster="a"}': '901',
      'ferry_downtime_running{cluster="a"}': '1',
      'ferry_downtime_budget_seconds{cluster="a"}': '900',
      'ferry_migration_running{cluster="a"}': '1',
    },
    labels: { cluster: 'a' },
  },
  FerryDowntimeProjectedOverBudget: {
    series: {
      'ferry_downtime_projected_seconds{cluster="a"}': '901',
      'ferry_downtime_budget_seconds{cluster="a"}': '900',
      'ferry_migration_running{cluster="a"}': '1',
    },
    labels: { cluster: 'a' },
  },
  FerryTransferRetries: {
    series: { 'ferry_transfer_attempt{cluster="a",transfer="t"}': '4' },
    labels: { cluster: 'a', transfer: 't' },
  },
  FerryTransferStandsStill: {
    series: {
      'ferry_transfer_bytes_per_second{cluster="a",transfer="t"}': '0',
      'ferry_transfer_attempt{cluster="a",transfer="t"}': '1',
    },
    labels: { cluster: 'a', transfer: 't' },
  },
  FerryTransferDoesNotConverge: {
    series: {
      'ferry_transfer_dirty_bytes_per_second{cluster="a",transfer="t"}': '95',
      'ferry_transfer_bytes_per_second{cluster="a",transfer="t"}': '100',
    },
    labels: { cluster: 'a', transfer: 't' },
  },
  FerryWorkerDown: { series: { 'up{job="ferry",instance="w"}': '0' }, labels: { job: 'ferry', instance: 'w' } },
  FerryStatusIsOld: {
    series: {
      'ferry_migration_status_timestamp_seconds{cluster="a"}': '0',
      'ferry_migration_running{cluster="a"}': '1',
    },
    labels: { cluster: 'a' },
  },
  FerryWorkflowTaskFails: {
    series: { 'temporal_workflow_task_execution_failed_total{instance="w",workflow_type="m"}': 'rising' },
    labels: { instance: 'w', workflow_type: 'm' },
  },
  FerryWorkerIsFull: {
    series: { 'temporal_worker_task_slots_available{instance="w",worker_type="ActivityWorker"}': '0' },
    labels: { instance: 'w' },
  },
};

const afterLongDowntime = {
  'ferry_downtime_seconds{cluster="a"}': '3900',
  'ferry_downtime_projected_seconds{cluster="a"}': '3900',
  'ferry_downtime_running{cluster="a"}': '0',
  'ferry_downtime_budget_seconds{cluster="a"}': '3600',
  'ferry_migration_running{cluster="a"}': '1',
};
/** What looks like trouble and is none any more: applications run, and the removal of the old nodes waits for days. */
const silent: [string, Record<string, string>][] = [
  ['FerryDowntimeOverBudget', afterLongDowntime],
  ['FerryDowntimeProjectedOverBudget', afterLongDowntime],
];

/** Enough to have waited for the longest `for`. */
const minutes = 40;

describe('deploy/prometheus/ferry-alerts.yml', () => {
  it('has a case for every alert', () => {
    expect(Object.keys(firing).sort()).toEqual(rules.map(({ alert }) => alert).sort());
  });

  it('speaks about what it is meant for, as two workers tell it, and about nothing when all is well', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ferry-alerts-'));
    const values = (value: string): string => (value === 'rising' ? `0+1x${minutes}` : `${value}+0x${minutes}`);
    const calm = (series: Record<string, string>): Record<string, string> =>
      Object.fromEntries(Object.keys(series).map((name) => [name, quiet[name.split('{')[0] ?? ''] ?? '0']));
    const tests = [
      ...Object.entries(firing).flatMap(([alertname, { series, labels }]) => [
        caseOf(alertname, series, values, [labels]),
        caseOf(alertname, calm(series), values, []),
      ]),
      ...silent.map(([alertname, series]) => caseOf(alertname, series, values, [])),
    ];
    const file = join(directory, 'tests.yml');
    writeFileSync(file, JSON.stringify({ rule_files: [rulesFile], evaluation_interval: '1m', tests }));
    const tool = await promtool();

    await run(tool, ['check', 'rules', rulesFile]);
    const answer = await run(tool, ['test', 'rules', file]).catch(
      (error: unknown) => error as { stdout: string; stderr: string },
    );
    rmSync(directory, { recursive: true });
    expect(`${answer.stdout}${answer.stderr}`).toContain('SUCCESS');
    expect(`${answer.stdout}${answer.stderr}`).not.toContain('FAILED');
  });
});

/** Values of a migration that is well, where that is not 0. */
const quiet: Record<string, string> = {
  ferry_downtime_seconds: '100',
  ferry_downtime_projected_seconds: '100',
  ferry_downtime_budget_seconds: '900',
  ferry_migration_running: '1',
  ferry_transfer_bytes_per_second: '100',
  ferry_migration_status_timestamp_seconds: String(minutes * 60),
  up: '1',
  temporal_worker_task_slots_available: '50',
};

function caseOf(
  alertname: string,
  series: Record<string, string>,
  values: (value: string) => string,
  expected: Record<string, string>[],
): object {
  const twice = Object.entries(series).flatMap(([name, value]) =>
    name.includes('instance=')
      ? [{ series: name, values: values(value) }]
      : ['w1', 'w2'].map((instance) => ({
          series: name.replace('}', `,instance="${instance}"}`),
          values: values(value),
        })),
  );
  const severity = rules.find(({ alert }) => alert === alertname)?.labels.severity ?? '';
  return {
    interval: '1m',
    input_series: twice,
    promql_expr_test: [
      {
        expr: `ALERTS{alertname="${alertname}",alertstate="firing"}`,
        eval_time: `${minutes - 1}m`,
        exp_samples: expected.map((labels) => ({
          labels: `ALERTS{${Object.entries({ ...labels, alertname, alertstate: 'firing', severity })
            .map(([label, text]) => `${label}="${text}"`)
            .join(',')}}`,
          value: 1,
        })),
      },
    ],
  };
}
