import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import type { ReportModel } from '../../src/client/report-model.ts';
import type { GateName, Plan } from '../../src/plan/plan.ts';
import type { MigrationStatus } from '../../src/workflows/messages.ts';
import { taskQueue } from '../../src/workflows/messages.ts';
import type { Handle, Harness } from './harness.ts';
import { startHarness, statusOf, until, untilBlocked, untilGate } from './harness.ts';
import { author, planOf } from './plans.ts';
import { createWorld } from './world.ts';

/* The commands as people type them: the real program in a process of its own, a real server, the real workflow in the model world. */

const bin = join(import.meta.dirname, '..', '..', 'src', 'client', 'bin.ts');
const directory = mkdtempSync(join(tmpdir(), 'ferry-client-'));

let harness: Harness;
beforeAll(async () => {
  // Commands find their migration by the visibility of the server, which the time-skipping one does not have.
  harness = await startHarness('development');
});
afterAll(async () => {
  await harness.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

/** Exit codes that were really seen. */
const seen = new Set<number>();

function environment(more: Record<string, string> = {}): NodeJS.ProcessEnv {
  return {
    ...process.env,
    TEMPORAL_ADDRESS: harness.environment.address,
    TEMPORAL_NAMESPACE: 'default',
    FERRY_USER: 'li',
    NO_COLOR: '1',
    ...more,
  };
}

function ferry(...args: string[]): Promise<Said> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [bin, ...args], { env: environment() }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      seen.add(code);
      resolve({ code, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** A plan file of a migration in a world of its own; nothing is freshened meanwhile, so that tests see what they did. */
function planFile(cluster: string, change: Parameters<typeof planOf>[1] = {}): { plan: Plan; file: string } {
  const plan = planOf(cluster, { limits: { refreshSeconds: 86_400 }, ...change });
  createWorld(plan);
  const file = join(directory, `${cluster}.yaml`);
  writeFileSync(file, stringify(plan));
  return { plan, file };
}

function handleOf(cluster: string): Handle {
  return harness.environment.client.workflow.getHandle(`migrate-${cluster}`);
}

/** Starts a migration by the command and waits for its first gate. */
async function startedAt(cluster: string, change: Parameters<typeof planOf>[1] = {}): Promise<Handle> {
  const { file } = planFile(cluster, change);
  const { code, stderr } = await ferry('start', file);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  await untilGate(handleOf(cluster), 'open-downtime');
  return handleOf(cluster);
}

function decisionsIn({ decisions }: MigrationStatus): string[] {
  return decisions.map(({ decision, by }) => `${decision} by ${by}`);
}

describe('a migration by commands alone', () => {
  it('goes from start to report, watched line by line', async () => {
    const gates = planOf('template').gates;
    const approvers = { approvers: ['li', author], required: 1, selfApproval: false };
    const { plan, file } = planFile('by-hand', { gates: { ...gates, 'open-downtime': approvers } });
    const other = planFile('by-hand-2', {});
    const id = 'migrate-by-hand';

    const started = await ferry('start', file, '-o', 'json');
    const again = await ferry('start', file);
    await untilGate(handleOf('by-hand'), 'open-downtime');
    const watcher = spawn(process.execPath, [bin, 'watch', id, '--interval', '0.2'], {
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    watcher.stdout.on('data', (part: Buffer) => (log += part.toString()));
    watcher.stderr.on('data', (part: Buffer) => (log += part.toString()));
    const watched = new Promise<number | null>((resolve) => watcher.once('exit', resolve));

    expect(started.code).toBe(0);
    expect(JSON.parse(started.stdout)).toMatchObject({ workflowId: id, planDigest: plan.digest });
    expect(again).toMatchObject({ code: 5, stderr: expect.stringContaining('runs already') as string });

    const table = await ferry('status', id);
    const json = await ferry('status', 'by-hand', '--output', 'json');
    const yaml = await ferry('status', id, '-o', 'yaml');

    expect([table.code, json.code, yaml.code]).toEqual([0, 0, 0]);
    expect(table.stdout).toContain(`ferry approve open-downtime ${id} --reason`);
    expect(table.stdout).toMatch(/⏸ §\d+ +replicate .*7 of 7 directories copied/);
    expect(JSON.parse(json.stdout)).toMatchObject({ workflowId: id, execution: 'RUNNING', planDigest: plan.digest });
    expect(parse(yaml.stdout)).toMatchObject({ state: 'awaiting-gate', awaitingGate: 'open-downtime' });

    const because = ['--reason', 'window open'];
    const refused = {
      // Nobody is asked to confirm it first.
      wrongGate: await ferry('approve', 'remove-nodes', id, ...because),
      stalePlan: await ferry('approve', 'open-downtime', id, ...because, '--yes', '--plan', other.file),
      stranger: await ferry('approve', 'open-downtime', id, ...because, '--yes', '--by', 'mallory'),
      author: await ferry('approve', 'open-downtime', id, ...because, '--yes', '--by', author),
      nothingPaused: await ferry('resume', id),
    };
    const unasked = await ferry('approve', 'open-downtime', id, ...because);
    const unreasoned = await ferry('approve', 'open-downtime', id, '--yes');

    expect(Object.values(refused).map(({ code }) => code)).toEqual([5, 5, 5, 5, 5]);
    expect(refused.wrongGate.stderr).toContain('gate remove-nodes is not open yet; the gate that awaits');
    for (const { stderr } of Object.values(refused)) expect(stderr).toContain(`Next: ferry status ${id}\n`);
    expect(refused.stalePlan.stderr).toContain("is not the running plan's");
    expect(refused.stranger.stderr).toContain('mallory is not an approver');
    expect(refused.author.stderr).toContain('wrote the plan');
    expect(refused.nothingPaused.stderr).toContain('nothing is paused');
    expect([unasked.code, unreasoned.code]).toEqual([2, 2]);
    expect(unasked.stderr).toMatch(/Applications of by-hand stop now[\s\S]*--yes/);
    expect(unreasoned.stderr).toContain('--reason');
    expect((await statusOf(handleOf('by-hand'))).decisions).toEqual([]);

    const tuned = await ferry('tune', id, '--limit', '20000');
    const paused = await ferry('pause', id, ...because);
    const whilePaused = await ferry('status', id, '-o', 'json');
    const resumed = await ferry('resume', id, '--signal');
    await until(handleOf('by-hand'), 'resumed', ({ paused: rest }) => rest === undefined);

    expect([tuned.code, paused.code, resumed.code]).toEqual([0, 0, 0]);
    expect(JSON.parse(whilePaused.stdout)).toMatchObject({ paused: { by: 'li', reason: 'window open' } });
    expect(resumed.stdout).toContain('whether it counts stands in: ferry status');

    const answers: Said[] = [];
    for (const gate of ['open-downtime', 'remove-nodes', 'close-downtime'] as GateName[]) {
      await untilGate(handleOf('by-hand'), gate);
      answers.push(await ferry('approve', gate, id, ...because, '--yes', '--plan', file));
    }
    const code = await watched;

    expect(answers.map((answer) => answer.code)).toEqual([0, 0, 0]);
    expect(answers[0]?.stdout).toContain('gate open-downtime is approved');
    expect(code).toBe(0);
    const lines = log.trim().split('\n');
    const stamped = lines.filter((line) => /^\d{4}-\d\d-\d\dT[\d:.]+Z /.test(line)).map((line) => line.slice(25));
    expect(stamped).toContainEqual(
      expect.stringMatching(/^gate open-downtime awaits 1 approval: li \(projected.*ferry approve/),
    );
    expect(stamped).toContainEqual(expect.stringMatching(/^li sent pause \(update\): window open/));
    expect(stamped).toContainEqual(expect.stringMatching(/^downtime begins/));
    expect(stamped).toContainEqual(expect.stringMatching(/^phase reinstall \(§\d+\) done/));
    expect(stamped).toContain('migration completed');
    expect(lines.at(-2)).toMatch(/^Completed\. Downtime/);
    // Nothing is drawn where nobody looks.
    expect(log).not.toContain('\u001b');

    await handleOf('by-hand').result();
    const late = await ferry('approve', 'close-downtime', id, ...because, '--yes');
    const done = await ferry('status', id, '-o', 'json');
    const report = await ferry('report', id, '-o', 'json');
    const page = join(directory, 'report.html');
    const html = await ferry('report', id, '--output-file', page);

    expect(late).toMatchObject({ code: 5, stderr: expect.stringContaining('has ended (completed)') as string });
    expect(JSON.parse(done.stdout)).toMatchObject({ execution: 'COMPLETED', state: 'completed' });
    expect([done.code, report.code, html.code]).toEqual([0, 0, 0]);
    const model = JSON.parse(report.stdout) as ReportModel;
    expect(model).toMatchObject({ outcome: 'migrated', gaps: [], planDigest: plan.digest });
    expect(model.decisions.map(({ decision, by, counted }) => [decision, by, counted])).toEqual(
      ['tune', 'pause', 'resume', 'approve', 'approve', 'approve'].map((decision) => [decision, 'li', true]),
    );
    expect(model.decisions.every(({ identity }) => identity?.startsWith(`ferry:${userInfo().username}`))).toBe(true);
    expect(readFileSync(page, 'utf8')).toContain('by-hand');
  });

  it('is aborted only with --yes where nobody can be asked, and watch says that it was rolled back', async () => {
    const handle = await startedAt('given-up');

    const unasked = await ferry('abort', 'given-up', '--reason', 'out of time');
    const before = decisionsIn(await statusOf(handle));
    const aborted = await ferry('abort', 'given-up', '--reason', 'out of time', '--yes');
    const watched = await ferry('watch', 'given-up', '--interval', '0.2');

    expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('undone in reverse') as string });
    expect(before).toEqual([]);
    expect(aborted.code).toBe(0);
    expect(watched).toMatchObject({ code: 7, stdout: expect.stringContaining('Rolled back:') as string });
    expect((await handle.result()).outcome).toBe('rolled-back');
  });

  it('goes back when its window is rejected', async () => {
    const handle = await startedAt('sent-back');

    const unasked = await ferry('reject', 'open-downtime', 'sent-back', '--reason', 'not tonight');
    const rejected = await ferry('reject', 'open-downtime', 'sent-back', '--reason', 'not tonight', '--yes');
    const { outcome, status } = await handle.result();
    const report = await ferry('report', 'sent-back', '-o', 'markdown');

    expect([unasked.code, rejected.code, report.code]).toEqual([2, 0, 0]);
    expect(outcome).toBe('rolled-back');
    expect(decisionsIn(status)).toEqual(['reject by li']);
    expect(report.stdout).toContain('rolled back to the old machines');
    expect(report.stdout).toContain('not tonight');
  });
});

describe('what a command finds', () => {
  it('tells what is not there, not reachable, or not meant', async () => {
    await startedAt('somebody');
    const nobody = await ferry('status', 'nobody');
    const nothing = await ferry('watch', 'nobody');
    const nowhere = await ferry('status', '--address', '127.0.0.1:1');
    const elsewhere = [await ferry('status', '--namespace', 'nope'), await ferry('watch', 'x', '--namespace', 'nope')];
    const unknown = await ferry('approve', 'open-sesame');
    const invalid = join(directory, 'invalid.yaml');
    writeFileSync(invalid, 'apiVersion: ferry.migration/v1\nkind: MigrationPlan\n');
    const plan = await ferry('start', invalid);
    await handleOf('somebody').terminate();

    expect(nobody).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('no migration nobody or migrate-nobody') as string,
    });
    expect(nobody.stderr).toMatch(/those that run: .*migrate-somebody/);
    expect(nothing.code).toBe(4);
    expect(nowhere).toMatchObject({ code: 6, stderr: expect.stringContaining('does not answer at') as string });
    for (const { code, stderr } of elsewhere) {
      expect({ code, stderr }).toMatchObject({
        code: 4,
        stderr: expect.stringMatching(/^ferry: Temporal has no namespace nope;/) as string,
      });
    }
    expect(unknown.code).toBe(2);
    expect(plan).toMatchObject({ code: 2, stderr: expect.stringContaining('nothing was done') as string });
  });

  it('asks which one is meant when several run, and says how a terminated one ended', async () => {
    const [one, two] = [await startedAt('several-1'), await startedAt('several-2')];
    await expect
      .poll(async () => (await ferry('status')).stderr, { timeout: 20_000 })
      .toMatch(/several migrations run: .*several-/);
    const asked = await ferry('status');
    const completed = await ferry('completion', 'bash', '--migrations');
    await one.terminate('by a test');
    await two.terminate('by a test');
    const watched = await ferry('watch', 'several-1');
    const looked = await ferry('status', 'several-1');
    const json = await ferry('status', 'several-1', '-o', 'json');

    expect(asked.code).toBe(2);
    expect(completed.stdout.trim().split('\n')).toEqual(
      expect.arrayContaining(['migrate-several-1', 'migrate-several-2']),
    );
    expect(watched).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('The workflow is terminated.') as string,
    });
    expect(watched.stdout).not.toMatch(/awaits|ferry approve/);
    expect(looked.code).toBe(1);
    expect(looked.stdout).toMatch(
      /^several-1 {2}terminated .*\n\nIt did not come to its own end\..*ferry break-glass\n/,
    );
    expect(looked.stdout).not.toMatch(/awaits|ferry approve|ferry reject|awaiting-gate/);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ execution: 'TERMINATED', state: 'terminated' });
    expect(JSON.parse(json.stdout)).not.toHaveProperty('awaitingGate');
  });

  it('finds a migration that was started without ferry, under whatever id', async () => {
    const { plan } = planFile('by-temporal');
    const { workflow } = harness.environment.client;
    const handle: Handle = await workflow.start('migrateNodes', { workflowId: 'abc', taskQueue, args: [plan] });
    // The model knows its worlds by the usual ids; this one stands blocked, which can be looked at and decided as well.
    await untilBlocked(handle);

    const status = await ferry('status', 'abc', '-o', 'json');
    const report = await ferry('report', 'abc', '-o', 'json');
    await expect
      .poll(async () => (await ferry('completion', 'bash', '--migrations')).stdout.split('\n'), { timeout: 20_000 })
      .toContain('abc');
    const paused = await ferry('pause', 'abc', '--reason', 'who started this?');
    await handle.terminate();
    const watched = await ferry('watch', 'abc', '--interval', '0.2');

    expect(JSON.parse(status.stdout)).toMatchObject({ workflowId: 'abc', cluster: 'by-temporal', state: 'blocked' });
    expect(JSON.parse(report.stdout)).toMatchObject({ workflowId: 'abc', cluster: 'by-temporal' });
    expect([status, report, paused, watched].map(({ code }) => code)).toEqual([0, 0, 0, 1]);
    expect(watched.stdout).toContain('The workflow is terminated.');
  });

  it('says that no worker answers, and what the server knows', async () => {
    const { file } = planFile('alone');
    await ferry('start', file, '--task-queue', 'nobody-listens');

    const status = await ferry('status', 'alone', '-o', 'json');
    const tuned = await ferry('tune', 'alone', '--limit', '0');
    await handleOf('alone').terminate();

    expect(status.code).toBe(6);
    expect(JSON.parse(status.stdout)).toMatchObject({ execution: 'RUNNING', worker: 'does not answer' });
    expect(tuned).toMatchObject({ code: 6, stderr: expect.stringContaining('no worker answered in time') as string });
    expect(tuned.stderr).toContain('Next: start a worker');
  });

  it('has now ended with every exit code of the table that these commands can end with', () => {
    expect([...seen].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 4, 5, 6, 7]);
  });
});
